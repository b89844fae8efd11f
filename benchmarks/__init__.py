"""Figures: our side and the peers' on the same work, interleaved in one sitting. Never run as tests."""
