"""`python -m proxy` is the command `aion-proxy`; nothing else belongs here."""

import sys

from proxy.cli import main

if __name__ == "__main__":
    sys.exit(main())
