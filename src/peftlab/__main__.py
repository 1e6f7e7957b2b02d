"""``python -m peftlab`` is the command `peftlab`."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:  # Python has put the current folder first, whose files
    del sys.path[0]  # would pass for any module

from peftlab.cli import main  # only from now on

if __name__ == "__main__":
    sys.exit(main())
