"""The loop. It owns every sum and every update, and knows no recipe."""
