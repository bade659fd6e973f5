"""Types that name units in signatures."""

Seconds = float
