"""Going on from a checkpoint: the newest one that was written to its end."""

from avt_distill.checkpoints import last_whole_checkpoint


def test_checkpoints_that_a_kill_cut_off_are_passed_over(tmp_path):
    for step, state in ((9, "{}"), (100, "{}"), (200, None), (300, '{"epoch": 1')):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"")
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-best").mkdir()
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-100")


def test_no_checkpoint_means_a_new_start(tmp_path):
    assert last_whole_checkpoint(tmp_path) is None
    assert last_whole_checkpoint(tmp_path / "nowhere") is None
