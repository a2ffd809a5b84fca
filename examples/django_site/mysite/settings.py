"""The settings: Django's usual ones, and five for the push server."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

# -- The push server ----------------------------------------------------------------------------

# Where the CMS posts.
PUSH_API_URL = os.environ.get("PUSH_URL", "http://127.0.0.1:8080")
# The same server as browsers see it.
PUSH_PUBLIC_URL = os.environ.get("PUSH_URL", "http://127.0.0.1:8080")
PUSH_KEY = (BASE_DIR / "site-key").read_text("utf-8").strip()
# Which channels a user may hear.
PUSH_CHANNELS = "tickets.channels.channels_of"
# Seconds after which the push server asks again whether a session is still good.
PUSH_GRANT_SECONDS = 600

# -- Django -------------------------------------------------------------------------------------

DEBUG = True
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "django-insecure-for-this-example-only")
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = [
    "tickets",
    "live",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "live.context_processors.push",
            ],
        },
    },
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "db.sqlite3",
        # Readers do not wait for a writer, and two writers wait for each other.
        "OPTIONS": {
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            "transaction_mode": "IMMEDIATE",
            "timeout": 10,
        },
    }
}
ROOT_URLCONF = "mysite.urls"
WSGI_APPLICATION = "mysite.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "/"
STATIC_URL = "static/"
USE_TZ = True
