"""The commands of `python -m trainer`, one file each: `add_arguments(parser)` and `run(options) -> exit status`."""
