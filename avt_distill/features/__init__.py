"""Features of videos: extraction, feature stores, and memory of earlier frames."""
