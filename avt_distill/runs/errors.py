"""One-sentence messages for errors that the user can correct, which commands print instead of a traceback."""

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

# Errors of other libraries about a file, URL or setting, by module and name, so that nothing needs to be imported. All
# other errors are bugs of this project, and keep their traceback.
OF_LIBRARIES = {
    ("safetensors", "SafetensorError"),
    ("pyarrow", "ArrowException"),
    ("lmdb", "Error"),
    ("yaml", "YAMLError"),
    ("zipfile", "BadZipFile"),
    ("_pickle", "UnpicklingError"),
    ("av", "FFmpegError"),
    ("huggingface_hub", "StrictDataclassError"),
    ("httpx", "HTTPError"),
    ("httpx2", "HTTPError"),
    ("requests", "RequestException"),
}
WRAPPERS = {("datasets", "DatasetGenerationError")}  # uninformative wrappers, whose cause is reported instead
OUT_OF_MEMORY = {("torch", "OutOfMemoryError"), ("builtins", "MemoryError")}
# Messages of torch's bare RuntimeErrors about files that it cannot write or read completely.
_OF_TORCH_FILES = re.compile(r"PytorchStream(Writer|Reader)|iostream error|unexpected pos \d+ vs|inline_container")
_OF_TORCH_WRITING = re.compile(r"PytorchStreamWriter|iostream error|unexpected pos \d+ vs")
# The form of system errors in messages of Rust libraries, which do not raise `OSError`.
_OF_RUST = re.compile(r"\(os error (\d+)\)")
_FULL_DISK = re.compile(r"No space left on device|os error 28\b|Disk quota exceeded|os error 122\b")
_PARTIAL = re.compile(r"\.([^/]+?)(?:\.[0-9a-f]{32})?\.partial\b")  # name of an unfinished file of `whole_file`
# What huggingface-hub says of a path at which there is nothing, since it then takes the path for a name on the Hub.
_NO_NAME = re.compile(
    r"Repo id must (?:be in the form|use alphanumeric).*?: ('[^']*')\.?(?: Use `repo_type` argument[^.]*\.)?"
)

ADVICE = {
    errno.ENOENT: "correct the path",
    errno.ENOTDIR: "correct the path",
    errno.EISDIR: "give a file",
    errno.EEXIST: "give a folder, or another name",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EACCES: "change its permissions, or give another path",
    errno.EPERM: "change its permissions, or give another path",
    errno.EROFS: "give a path that can be written to",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EFBIG: "give a path on a file system that takes larger files, or raise their limit (ulimit -f)",
}
FULL = (errno.ENOSPC, errno.EDQUOT)


def sentence(error: BaseException) -> str | None:
    """Returns a sentence with the problem and the next step, or `None` for errors that the user cannot correct.

    Args:
        error (`BaseException`): The error that ended a command.
    """
    if _is_one_of(error, WRAPPERS) and error.__cause__ is not None:
        return sentence(error.__cause__)
    text = _in_one_line(error)
    if _FULL_DISK.search(text) or getattr(error, "errno", None) in FULL:
        return _full_disk(error)
    if isinstance(error, OSError) and error.errno is not None and error.strerror and error.filename is not None:
        return _of_the_system(error)
    if _is_one_of(error, OUT_OF_MEMORY):
        return f"There is not enough memory ({text}): give smaller batches or fewer processes."
    if isinstance(error, RuntimeError) and _OF_TORCH_FILES.search(text):
        return f"A file cannot be written or read to its end ({text}): check that the disk is not full, and rerun."
    if isinstance(error, (ValueError, OSError, ImportError)) or _is_one_of(error, OF_LIBRARIES):
        return text
    return None


def naming_place(error: Exception, place: str | Path) -> Exception:
    """Returns an error with the path of the folder or file that a command writes to, if the original may not name one.

    When a disk is full, neither the system nor torch, safetensors and tokenizers name the file. Errors that name a
    file, or have other causes, are returned unchanged.
    """
    text = _in_one_line(error)
    of_rust = _OF_RUST.search(text)
    number = int(of_rust[1]) if of_rust else getattr(error, "errno", None)
    if number in (*FULL, errno.EFBIG) and getattr(error, "filename", None) is None:
        return OSError(number, os.strerror(number), str(place))
    if isinstance(error, RuntimeError) and _OF_TORCH_WRITING.search(text):
        return OSError(f"{place} cannot be written to its end ({text}): check that the disk is not full, and rerun.")
    return error


def _full_disk(error: BaseException) -> str:
    name = _file_name(error)
    place = f" for {name}" if name else ""
    return f"The disk is full: there is no space left{place}. Free some, and rerun the command."


def _of_the_system(error: OSError) -> str:
    advice = ADVICE.get(error.errno or 0, "check the path, and rerun the command")
    return f"Cannot read or write {_file_name(error)}: {error.strerror}; {advice}."


def _file_name(error: BaseException) -> str:
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    name = name.decode(errors="replace") if isinstance(name, bytes) else name
    return "" if name is None else _PARTIAL.sub(r"\1", str(name))


def _in_one_line(error: BaseException) -> str:
    text = " ".join(_PARTIAL.sub(r"\1", str(error)).split())
    is_alone = _NO_NAME.fullmatch(text)
    text = _NO_NAME.sub(r"\1 is neither a folder nor a possible name on the Hub", text)
    return f"{text}: correct it." if is_alone else text or type(error).__name__


def _is_one_of(error: BaseException, names: set[tuple[str, str]]) -> bool:
    return not names.isdisjoint(_names(type(error)))


def _names(kind: type) -> Iterator[tuple[str, str]]:
    for base in kind.__mro__:
        yield base.__module__.split(".")[0], base.__name__
