"""``python -m train``: the train command without the service installed."""

from train.cli import main

main()
