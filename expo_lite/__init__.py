"""ExPO on one small GPU, or a CPU. Import the module you need: this package itself imports nothing heavy."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("expo-lite")
except PackageNotFoundError:  # a bare checkout that is on the path but not installed
    __version__ = "0+unknown"

del PackageNotFoundError, version
