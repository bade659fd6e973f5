"""Evaluate a checkpoint on the recipe's validation set."""

from collections.abc import Sequence

from slap.cli import recipe


def main(arguments: Sequence[str]) -> int:
    """Run the command, see `slap.cli.recipe`."""
    return recipe.main("validate", str(__doc__), arguments)
