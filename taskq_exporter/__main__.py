"""python -m taskq_exporter"""

from taskq_exporter.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
