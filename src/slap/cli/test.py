"""Evaluate a checkpoint on the recipe's test set."""

from collections.abc import Sequence

from slap.cli import recipe


def main(arguments: Sequence[str]) -> int:
    """Run the command, see `slap.cli.recipe`."""
    return recipe.main("test", str(__doc__), arguments)
