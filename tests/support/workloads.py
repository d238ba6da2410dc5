"""How models are used, where plans are tested."""

from __future__ import annotations

from expo_lite.memory.plan import Workload

QLORA = Workload(16, quantised=True, checkpointing=True, optimizer="adamw_8bit", value_bytes=2, on_gpu=True)
