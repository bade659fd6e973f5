"""Write the embeddings of the recipe's clips."""

from collections.abc import Sequence

from slap.cli import recipe


def main(arguments: Sequence[str]) -> int:
    """Run the command, see `slap.cli.recipe`."""
    return recipe.main("predict", str(__doc__), arguments)
