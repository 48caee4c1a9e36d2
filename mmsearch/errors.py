"""Every error that mmsearch raises on purpose, as one tree.

    MmsearchError
    ├── UsageError               the call itself cannot be carried out as asked
    │   └── LimitExceeded        an input is larger than a stated limit
    ├── DecodeError              one file, picture, sound or text cannot be read
    ├── ProcessingFailed         an encoder or a decoder failed, and not because of the input
    ├── StoreError              the index folder
    │   ├── IndexNotFound        there is none at this place
    │   ├── IndexDamaged         a file of it is missing, cut or altered
    │   ├── IndexTooNew          it was written by a newer schema
    │   ├── IndexLocked          another writer holds it
    │   ├── IndexNotReadable     no permission to read it
    │   └── IndexNotWritable     no permission, read-only or full disk
    ├── SpaceError               encoders and their spaces
    │   ├── SpaceUnavailable     unknown name, or something it needs is missing
    │   └── SpaceMismatch        vectors of another space than the index's
    └── DimensionMismatch        a vector of the wrong width

A message says what happened, what was got, what was wanted and what to do.
Only ``cli`` and ``server`` turn these into exit codes and statuses.
"""


def install(extra: str) -> str:
    """How one of the extras is installed, to end an error with: mmsearch is on no index."""
    return f"install the extra {extra}: pip install '.[{extra}]' in mmsearch's folder"


class MmsearchError(Exception):
    """Root of the tree: catch this to catch everything mmsearch raises on purpose."""

    def __str__(self) -> str:
        # a name that is not UTF-8 is written out: a log in UTF-8 must take any message
        return super().__str__().encode("utf-8", "backslashreplace").decode("utf-8")


class UsageError(MmsearchError):
    """The call cannot be carried out as it was asked."""


class LimitExceeded(UsageError):
    """An input is larger than a stated limit."""


class DecodeError(MmsearchError):
    """One input cannot be read.

    ``stage`` is where it failed (``read``, ``sniff``, ``decode``, ``encode``);
    the message is the reason, fit for a person.
    """

    def __init__(self, reason: str, stage: str = "decode") -> None:
        super().__init__(reason)
        self.stage = stage


class ProcessingFailed(MmsearchError):
    """An encoder or a decoding process failed for a reason other than its input.

    The device was lost, memory ran out, or the system killed a process. Nothing was recorded
    against the input: try again.
    """


class StoreError(MmsearchError):
    """Something is wrong with an index folder."""


class IndexNotFound(StoreError):
    """There is no index at the place named."""


class IndexDamaged(StoreError):
    """A file of the index is missing, cut short or altered."""


class IndexTooNew(StoreError):
    """The index was written by a newer version of mmsearch."""


class IndexLocked(StoreError):
    """Another process is writing to the index."""


class IndexNotReadable(StoreError):
    """A file of the index may not be read."""


class IndexNotWritable(StoreError):
    """The index cannot be written: permissions, a read-only or a full disk."""


class SpaceError(MmsearchError):
    """Something is wrong with an embedding space."""


class SpaceUnavailable(SpaceError):
    """The space's name is unknown, or something it needs is not installed."""


class SpaceMismatch(SpaceError):
    """Vectors of one space were offered to an index of another."""


class DimensionMismatch(MmsearchError):
    """A vector has the wrong number of components."""
