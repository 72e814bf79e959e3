"""Timelines as the pipeline answers them."""


def moment(at_s: float, **scores: float) -> dict:
    """A moment, 1 s ahead: `moment(2.0, cut_egg=0.7)`."""
    times = {"observed_from_s": 0.0, "observed_until_s": at_s, "starts_at_s": at_s + 1}
    answers = [{"label": label.replace("_", " "), "score": score, **times} for label, score in scores.items()]
    return {"at_s": at_s, "starts_at_s": at_s + 1, "anticipated": answers}
