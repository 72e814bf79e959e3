"""The fork server: assumptions of the tests of checkpoints, commands and Hubs."""

from pathlib import Path

import pytest
from helpers.processes import WITH_THE_PROJECT, command


@pytest.mark.parametrize("name", ["avt_distill", "modeling_avt", "configuration_avt", "run_distill", "helpers"])
def test_a_fork_cannot_import_the_project(clean_process, name):
    error = clean_process(f"import {name}", fails=True)
    assert error.endswith(f"ModuleNotFoundError: No module named '{name}'\n")


def test_forks_do_not_affect_each_other(clean_process, monkeypatch):
    monkeypatch.syspath_prepend("somewhere")
    clean_process(f"{WITH_THE_PROJECT}import os, avt_distill, torch; os.environ['LEFT'] = torch.left = 'here'")
    printed = clean_process("""
    import os, sys, torch
    print("LEFT" in os.environ, hasattr(torch, "left"), "avt_distill" in sys.modules, "somewhere" in sys.path)
    """)
    assert printed == "False False False False\n"


def test_each_folder_has_a_cache_of_its_own(fork_server, tmp_path):
    write = "import os; open(os.path.join(os.environ['HF_HOME'], 'cached'), 'w')"
    ask = "import os, huggingface_hub; print(os.listdir(huggingface_hub.constants.HF_HOME))"
    for place in ("here", "elsewhere"):
        (tmp_path / place).mkdir()
    fork_server.run(write, tmp_path / "here")
    printed = [fork_server.run(ask, tmp_path / place) for place in ("here", "elsewhere", "here")]
    assert printed == ["['cached']\n", "[]\n", "['cached']\n"]
    assert (tmp_path / "here" / "hf_home" / "cached").exists()


def test_a_fork_ends_as_an_interpreter_does(fork_server, tmp_path):
    atexit = "import atexit, threading; atexit.register(print, 'last')\n"
    thread = "threading.Thread(target=lambda: print('awaited')).start()"
    assert fork_server.run(atexit + thread, tmp_path) == "awaited\nlast\n"
    for code, status, error in (
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('error: no')", 1, "error: no\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -15, ""),
        (command("evaluate", "missing.parquet"), 1, "error: "),
    ):
        process = fork_server.start(code, tmp_path)
        process.wait()
        assert process.returncode == status
        assert process.stderr.startswith(error)


def test_an_offline_fork_sends_no_requests(clean_process, hub):
    ask = "from huggingface_hub import HfApi; HfApi().model_info('user/avt')"
    assert "OfflineModeIsEnabled" in clean_process(ask, fails=True)
    assert "RepositoryNotFoundError" in hub.run(ask, "here", fails=True)


def test_a_process_that_fails_ends_those_that_would_wait_for_it(fork_server, tmp_path):
    code = "import os, sys, time; os.environ['RANK'] == '1' and sys.exit('no'); time.sleep(60); open('late', 'w')"
    with pytest.raises(AssertionError, match="no"):
        fork_server.run_several(code, tmp_path)
    assert not (tmp_path / "late").exists()


def test_the_server_has_no_thread_that_a_fork_would_lack(fork_server):
    """The only exception is the thread of pyarrow's jemalloc, which is restarted in a fork."""
    threads = Path(f"/proc/{fork_server.process.pid}/task")
    if not threads.exists():
        pytest.skip("needs /proc")
    names = [(thread / "comm").read_text().strip() for thread in threads.iterdir()]
    assert len([name for name in names if name != "jemalloc_bg_thd"]) == 1
