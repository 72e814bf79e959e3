"""Training and extraction in several processes."""

import os


def check_processes(num_processes: int, option: str = "--use_cpu"):
    """Refuses processes that do not know of each other, each of which would do the whole work and write the result.

    Without an accelerator, `torchrun` and `accelerate launch` start processes that stay alone until they are told to
    use the CPU.

    Args:
        num_processes (`int`): The processes that work together as Accelerate sees it, such as
            `TrainingArguments.world_size`.
        option (`str`, *optional*, defaults to `"--use_cpu"`): What tells the script to use the CPU.

    Raises:
        ValueError: where more were launched.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != num_processes:
        raise ValueError(
            f"{launched} processes were launched, but each runs alone: without an accelerator give {option}."
        )
