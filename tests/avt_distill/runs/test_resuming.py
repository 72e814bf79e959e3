"""Checkpoints to resume from: complete ones of all processes give the same weights; others are skipped or refused."""

import random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from avt_distill.runs.resuming import check_resumable, last_whole_checkpoint

ONE, TWO = ("rng_state.pth",), ("rng_state_0.pth", "rng_state_1.pth")


def write_checkpoint(root, step, states=ONE, without=(), state="{}"):
    folder = root / f"checkpoint-{step}"
    folder.mkdir()
    save_file({"weight": torch.zeros(2)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", *states):
        torch.save({"state": 1}, folder / name)
    (folder / "trainer_state.json").write_text(state)
    for name in without:
        (folder / name).unlink()
    return folder


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def test_checkpoints_truncated_by_a_kill_are_skipped(tmp_path, caplog):
    write_checkpoint(tmp_path, 9)
    write_checkpoint(tmp_path, 100)
    write_checkpoint(tmp_path, 200, without=["trainer_state.json"])
    write_checkpoint(tmp_path, 300, state='{"epoch": 1')
    cut(write_checkpoint(tmp_path, 400) / "optimizer.pt")
    cut(write_checkpoint(tmp_path, 500) / "model.safetensors")
    (tmp_path / "checkpoint-best").mkdir()
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-100")
    assert "checkpoint-500 was cut off in model.safetensors" in caplog.text


def test_a_checkpoint_that_is_not_finite_is_skipped(tmp_path, caplog):
    write_checkpoint(tmp_path, 2)
    save_file({"weight": torch.tensor([1.0, torch.nan])}, write_checkpoint(tmp_path, 4) / "model.safetensors")
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    assert "checkpoint-4 holds weights that are not finite" in caplog.text


def test_no_checkpoint_means_a_new_start(tmp_path):
    assert last_whole_checkpoint(tmp_path) is None
    assert last_whole_checkpoint(tmp_path / "nowhere") is None


def test_a_checkpoint_is_whole_when_every_process_has_written_to_it(tmp_path):
    write_checkpoint(tmp_path, 2, TWO)
    write_checkpoint(tmp_path, 4, TWO[:1])
    assert last_whole_checkpoint(tmp_path, 2) == str(tmp_path / "checkpoint-2")
    write_checkpoint(tmp_path, 6, TWO)
    assert last_whole_checkpoint(tmp_path, 2) == str(tmp_path / "checkpoint-6")


def test_the_first_checkpoint_killed_between_processes_means_a_new_start(tmp_path):
    write_checkpoint(tmp_path, 2, TWO[:1])
    assert last_whole_checkpoint(tmp_path, 2) is None


@pytest.mark.parametrize(
    ("without", "named"),
    [
        (["optimizer.pt", "scheduler.pt", "rng_state.pth"], "has no rng_state.pth, optimizer.pt, scheduler.pt"),
        (["optimizer.pt"], "has no optimizer.pt"),
        (["scheduler.pt"], "has no scheduler.pt"),
        (["rng_state.pth"], "has no rng_state.pth"),
        (["model.safetensors"], "has no model.safetensors"),
    ],
)
def test_a_checkpoint_without_all_states_is_not_resumed_silently(tmp_path, without, named, caplog):
    checkpoint = write_checkpoint(tmp_path, 4, without=without)
    with pytest.raises(ValueError, match=f"checkpoint-4 {named} .*: delete the checkpoints in"):
        last_whole_checkpoint(tmp_path)
    with pytest.raises(ValueError, match=f"checkpoint-4 {named} .*: give another checkpoint"):
        check_resumable(checkpoint)
    write_checkpoint(tmp_path, 2)
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    assert f"checkpoint-4 {named}" in caplog.text


@pytest.mark.parametrize(("states", "num_processes"), [(TWO, 1), (ONE, 2), ((*TWO, "rng_state_2.pth"), 2)])
def test_a_checkpoint_of_another_number_of_processes_is_refused(tmp_path, states, num_processes):
    write_checkpoint(tmp_path, 4, states)
    message = f"checkpoint-4 was saved by {len(states)} processes, not by {num_processes}"
    with pytest.raises(ValueError, match=message):
        last_whole_checkpoint(tmp_path, num_processes)


def test_a_checkpoint_that_is_given_is_checked(tmp_path):
    check_resumable(write_checkpoint(tmp_path, 2))
    with pytest.raises(ValueError, match="nowhere, which is no folder"):
        check_resumable(tmp_path / "nowhere")
    half = write_checkpoint(tmp_path, 4, state='{"epoch": 1')
    with pytest.raises(ValueError, match="checkpoint-4 was interrupted mid-write and cannot be resumed: give another"):
        check_resumable(half)


class Code:
    """An object that is not a tensor, number or text."""


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth", "pytorch_model.bin"])
def test_states_of_objects_are_refused(tmp_path, name, caplog):
    checkpoint = write_checkpoint(tmp_path, 4)
    torch.save({"state": Code()}, checkpoint / name)
    with pytest.raises(
        ValueError, match=f"checkpoint-4 holds more than tensors and numbers in {name}, which could run"
    ):
        last_whole_checkpoint(tmp_path)
    with pytest.raises(ValueError, match=f"more than tensors and numbers in {name}.*: give another checkpoint"):
        check_resumable(checkpoint)
    write_checkpoint(tmp_path, 2)
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    assert f"checkpoint-4 holds more than tensors and numbers in {name}" in caplog.text


def test_random_states_of_numpy_are_plain(tmp_path):
    checkpoint = write_checkpoint(tmp_path, 4)
    states = {"numpy": np.random.get_state(), "python": random.getstate(), "cpu": torch.random.get_rng_state()}
    torch.save(states, checkpoint / "rng_state.pth")
    torch.save(Code(), checkpoint / "training_args.bin")  # which is not loaded
    check_resumable(checkpoint)


def write_parts(root, step, num_processes=2, state=None):
    """Writes a checkpoint as DeepSpeed does, without `optimizer.pt`."""
    states = [f"rng_state_{rank}.pth" for rank in range(num_processes)]
    folder = write_checkpoint(root, step, states, without=["optimizer.pt"])
    (folder / "latest").write_text(f"global_step{step}")
    parts = folder / f"global_step{step}"
    parts.mkdir()
    for rank in range(num_processes):
        for kind in ("optim", "model"):
            torch.save({"state": state or 1}, parts / f"zero_pp_rank_{rank}_mp_rank_00_{kind}_states.pt")
    return parts


def test_a_checkpoint_of_deepspeed_is_whole_with_every_process_s_part(tmp_path, caplog):
    write_parts(tmp_path, 2)
    assert last_whole_checkpoint(tmp_path, 2) == str(tmp_path / "checkpoint-2")
    (write_parts(tmp_path, 4) / "zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()
    cut(write_parts(tmp_path, 6) / "zero_pp_rank_0_mp_rank_00_model_states.pt")
    for path in write_parts(tmp_path, 8).glob("*_model_states.pt"):
        path.unlink()
    assert last_whole_checkpoint(tmp_path, 2) == str(tmp_path / "checkpoint-2")
    assert "checkpoint-4 lacks parts of weights or optimizer in global_step4" in caplog.text
    assert "checkpoint-6 was cut off in global_step6/zero_pp_rank_0_mp_rank_00_model_states.pt" in caplog.text
    assert "checkpoint-8 lacks parts of weights or optimizer in global_step8" in caplog.text


def test_a_checkpoint_of_deepspeed_that_names_other_code_is_refused(tmp_path):
    write_parts(tmp_path, 2, state=Code())
    with pytest.raises(ValueError, match=r"holds .*\.Code in global_step2/zero_pp_rank_0_.*, which could run code"):
        last_whole_checkpoint(tmp_path, 2)


def test_a_checkpoint_of_deepspeed_of_more_processes_is_refused(tmp_path):
    parts = write_parts(tmp_path, 2)
    torch.save({}, parts / "zero_pp_rank_2_mp_rank_00_optim_states.pt")
    with pytest.raises(ValueError, match="checkpoint-2 was saved by 3 processes, not by 2"):
        last_whole_checkpoint(tmp_path, 2)
