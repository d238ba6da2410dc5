"""Rows of data sets on the Hugging Face Hub, the few that are known, and what to do when one cannot be had."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from expo_lite.core.errors import DataError
from expo_lite.problems.columns import DataRow

Loader = Callable[..., Iterable[Mapping[str, Any]]]
"""Called as `datasets.load_dataset(id, subset, split=split)`."""


@dataclass(frozen=True)
class HubSet:
    """How a data set of the Hub is read where the configuration does not say otherwise."""

    columns: Mapping[str, str] = field(default_factory=dict)
    subsets: tuple[str | None, ...] = (None,)
    split: str | None = "train"
    test_split: str | None = None
    bad_rows: int = 0
    """Rows known to be unusable; more are an error."""
    contradicts_itself: bool = False
    """Some of its questions stand in it with different answers; they are left out and said, and are no error."""
    sizes: Sequence[float] = ()
    """Training problems by level (inf: plenty); a forecast counts what is held out of them."""
    test_sizes: Sequence[float] = ()
    """Test problems by level, where the data set has such a split."""


_MATH_COLUMNS = {"question": "problem", "answer": "answer", "level": "level", "solution": "solution"}
_MATH_SUBJECTS = (
    *("algebra", "counting_and_probability", "geometry", "intermediate_algebra"),
    *("number_theory", "prealgebra", "precalculus"),
)
_MATH_SIZES, _MATH_TEST_SIZES = (564, 1348, 1592, 1690, 2304), (437, 894, 1131, 1214, 1324)
KNOWN_SETS = {
    "EleutherAI/hendrycks_math": HubSet(
        {"question": "problem", "answer": "solution", "level": "level", "solution": "solution"},
        subsets=_MATH_SUBJECTS,
        test_split="test",
        bad_rows=2,  # two training problems of geometry have "Level ?"
        contradicts_itself=True,
        sizes=_MATH_SIZES,
        test_sizes=_MATH_TEST_SIZES,
    ),
    "nlile/hendrycks-MATH-benchmark": HubSet(
        _MATH_COLUMNS,
        test_split="test",
        bad_rows=2,
        contradicts_itself=True,
        sizes=_MATH_SIZES,
        test_sizes=_MATH_TEST_SIZES,
    ),
    "HuggingFaceH4/MATH-500": HubSet(_MATH_COLUMNS, split=None, test_split="test", test_sizes=(43, 90, 105, 128, 134)),
    "openai/gsm8k": HubSet(
        {"question": "question", "answer": "answer"},
        subsets=("main",),
        test_split="test",
        sizes=(7473,),
        test_sizes=(1319,),
    ),
    "open-r1/DAPO-Math-17k-Processed": HubSet(
        {"question": "prompt", "answer": "solution"}, subsets=("en",), contradicts_itself=True, sizes=(inf,)
    ),
    "agentica-org/DeepScaleR-Preview-Dataset": HubSet(
        {"question": "problem", "answer": "answer", "solution": "solution"},
        bad_rows=6,  # six answers are empty
        contradicts_itself=True,
        sizes=(inf,),
    ),
}


def read_hub(
    hub_id: str, subsets: Iterable[str | None], split: str, load_dataset: Loader | None = None
) -> Iterator[DataRow]:
    """Every row of a split, subset after subset. Raises DataError that says what to do if the Hub does not give it."""
    for subset in subsets:
        name = f"{hub_id} ({', '.join(filter(None, (subset, split)))})"
        try:
            rows = (load_dataset or _datasets_loader())(hub_id, subset, split=split)
            for number, values in enumerate(rows, 1):
                yield DataRow(f"{name}, row {number}", values)
        except Exception as error:
            raise DataError(hub_message(hub_id, error)) from error


def _datasets_loader() -> Loader:
    import datasets  # late: it takes seconds to load

    datasets.logging.set_verbosity_error()  # without the Hub it tells four times for each subset where its cache is
    return datasets.load_dataset


def hub_message(hub_id: str, error: BaseException) -> str:
    """One sentence on why a data set of the Hub could not be loaded, and what to do."""
    chain = _chain(error)
    kinds = {kind.__name__ for one in chain for kind in type(one).__mro__}
    said = " ".join(map(str, chain))
    statuses = {getattr(getattr(one, "response", None), "status_code", None) for one in chain}
    page = f"https://huggingface.co/datasets/{hub_id}"
    if "GatedRepoError" in kinds or "gated" in said:
        return (
            f"{hub_id}: is gated on the Hub; accept its licence at {page}, then run `hf auth login` with a token "
            "of that account."
        )
    if kinds & {"DatasetNotFoundError", "RepositoryNotFoundError"}:
        return (
            f"{hub_id}: neither a file here nor a data set on the Hub; check the spelling, or, if it is private, run "
            "`hf auth login`."
        )
    if statuses & {401, 403}:
        return f"{hub_id}: the Hub refuses access; run `hf auth login`, and accept the licence at {page} if it has one."
    if kinds & _UNREACHABLE or any(name in said for name in _UNREACHABLE) or any((s or 0) >= 500 for s in statuses):
        return (
            f"{hub_id}: the Hub cannot be reached; try again later, or on another machine run "
            f"`hf download {hub_id} --repo-type dataset --local-dir FOLDER`, copy it here and set data.source to it."
        )
    reason = " ".join(str(error).split("\nExample of usage")[0].split()) or type(error).__name__
    if isinstance(error, ValueError):
        return f"{hub_id}: {reason.rstrip('.')}; set data.subset, data.split or data.test_split to one that it has."
    return f"{hub_id}: could not be loaded ({type(error).__name__}: {reason}); try a local copy of its files."


_UNREACHABLE = {
    *("ConnectionError", "ConnectError", "TimeoutError", "Timeout", "TimeoutException", "NetworkError"),
    *("OfflineModeIsEnabled", "LocalEntryNotFoundError"),
}


def _chain(error: BaseException) -> list[BaseException]:
    """The error, what caused it, and so on."""
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or one.__context__
    return chain
