"""The server process of `processes.ForkServer`: imports the libraries once and forks a child for each piece of code.

It reads requests from stdin, a line of JSON each, and replies with a line: to `{"code": ...}` with a process id, and to
`{"pid": ...}` with the exit status of that process, or null while it runs. It runs after
`processes.WITHOUT_THE_PROJECT`.
"""

import atexit
import gc
import importlib
import json
import os
import sys
import threading
import traceback
import types

PROJECT_MODULES = {"avt_distill", "configuration_avt", "modeling_avt", "run_distill"}
# The imports of the tests' code. None of them may start Python threads or run torch operations here, because a child
# process would lack their threads.
LIBRARIES = ("av", "datasets", "evaluate", "pandas", "pyarrow.parquet", "scipy.stats", "torch.distributed.run")
OF_TRANSFORMERS = ("AutoModel", "AutoProcessor", "AutoTokenizer", "Trainer", "ViTModel", "pipeline")


def import_libraries():
    for name in LIBRARIES:
        importlib.import_module(name)
    transformers = importlib.import_module("transformers")
    for name in OF_TRANSFORMERS:
        getattr(transformers, name)
    assert not PROJECT_MODULES & set(sys.modules)
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page


def serve() -> dict | None:
    """Returns the request to run in a child process, or in the server `None` when requests end."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # keeps the libraries' output out of the replies
    import_libraries()
    print("ready", file=replies)
    for line in sys.stdin:
        request = json.loads(line)
        if "code" not in request:
            pid, status = os.waitpid(request["pid"], os.WNOHANG)
            reply = os.waitstatus_to_exitcode(status) if pid else None
        elif (reply := os.fork()) == 0:
            replies.close()
            return request
        print(json.dumps(reply), file=replies)
    return None


def become(request: dict) -> int:
    """Runs code in its folder and environment as in a new interpreter, and returns its exit status."""
    for number, path in enumerate((os.devnull, request["stdout"], request["stderr"])):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        go_offline()
    assert importlib.util.find_spec("modeling_avt") is None
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    try:
        exec(compile(request["code"], "<code>", "exec"), module.__dict__)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def go_offline():
    """Has the effect of `HF_HUB_OFFLINE=1` at the import of these libraries."""
    import datasets
    import huggingface_hub

    huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    assert huggingface_hub.is_offline_mode()


def end(status: int):
    """Ends the process as the interpreter would, without finalizing modules.

    Finalizing takes 0.3 s. It also aborts occasionally after a barrier of several processes ("terminate called without
    an active exception", PyTorch 2.13): gloo's thread then releases tensors, for which it needs the interpreter.
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if request := serve():
    end(become(request))
