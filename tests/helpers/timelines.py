"""Timelines in the form in which the pipeline returns them."""


def moment(at_s: float, **scores: float) -> dict:
    """Returns a moment with actions 1 s ahead: `moment(2.0, cut_egg=0.7)`."""
    times = {"observed_from_s": 0.0, "observed_until_s": at_s, "starts_at_s": at_s + 1}
    answers = [{"label": label.replace("_", " "), "score": score, **times} for label, score in scores.items()]
    return {"at_s": at_s, "starts_at_s": at_s + 1, "anticipated": answers}


def with_history(moment: dict, **begun: float) -> dict:
    """Returns a moment with recognized actions and their start times: `with_history(moment, cut_egg=3.0)`."""
    history = [
        {"label": label.replace("_", " "), "action": action, "start_s": start_s, "probability": 0.8}
        for action, (label, start_s) in enumerate(begun.items())
    ]
    return {**moment, "history": history}
