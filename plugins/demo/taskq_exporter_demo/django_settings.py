"""The settings of the demo's Django project: nothing but tasks."""

import os

SECRET_KEY = "only for the demo"  # noqa: S105
USE_TZ = True
INSTALLED_APPS = ["django_tasks_redis"]
TASKS = {
    "default": {
        "BACKEND": "django_tasks_redis.RedisTaskBackend",
        "QUEUES": ["default", "thumbnails", "newsletters"],
        "OPTIONS": {"REDIS_URL": os.environ.get("TASKQ_DEMO_DJANGO_URL", ""), "REDIS_RESULT_TTL": 3600},
    }
}
