"""Train the model of a recipe."""

from collections.abc import Sequence

from slap.cli import recipe


def main(arguments: Sequence[str]) -> int:
    """Run the command, see `slap.cli.recipe`."""
    return recipe.main("fit", str(__doc__), arguments)
