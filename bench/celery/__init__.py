"""The Celery adapter: its follower and its scrapes, side by side with others."""
