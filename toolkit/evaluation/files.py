"""The atomic writes of `toolkit.files`, under the name that this package's modules import."""

from toolkit.files import write_atomic, write_json

__all__ = ["write_atomic", "write_json"]
