"""The entry of the program: `mmsearch`, and `python -m mmsearch`."""

import gc
import sys


def main() -> None:
    """Run the command line. Ctrl-C while it loads ends it as quietly as later on."""
    try:
        from mmsearch.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        sys.stderr.write("\nmmsearch: stopped.\n")
        raise SystemExit(130) from None
    finally:
        # Python looks for cycles in all memory when it ends: a tenth of the time of a query, for
        # memory that the system takes back anyway.
        gc.freeze()


if __name__ == "__main__":
    main()
