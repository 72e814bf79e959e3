"""Devices selected by the user, checked for existence."""

import torch


def checked_device(name: str | None) -> torch.device | None:
    """Returns the device of a name such as `"cuda:0"`, and `None` for `None`.

    Raises:
        ValueError: If the name is not that of a device, or this machine does not have the device.
    """
    if name is None:
        return None
    known = available_devices()
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device is '{name}', which is not a device: give one of {known}.") from error
    full_name = device.type if device.type == "cpu" else f"{device.type}:{device.index or 0}"
    if full_name not in known:
        raise ValueError(f"device is '{name}', which this machine does not have: give one of {known}.")
    return device


def available_devices() -> list[str]:
    """Returns the names of the devices of this machine, the CPU first."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return ["cpu"]
    return ["cpu", *(f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count()))]
