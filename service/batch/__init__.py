"""What a batch job says at its end: a summary of its verdict table, in numbers and as a page."""
