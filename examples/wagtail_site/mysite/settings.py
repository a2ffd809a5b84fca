"""The settings: Wagtail's usual ones, and four for the push server."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

# -- The push server ----------------------------------------------------------------------------

# Where the CMS posts.
PUSH_API_URL = os.environ.get("PUSH_URL", "http://127.0.0.1:8080")
# The same server as browsers see it.
PUSH_PUBLIC_URL = os.environ.get("PUSH_URL", "http://127.0.0.1:8080")
PUSH_KEY = (BASE_DIR / "site-key").read_text("utf-8").strip()
# With it the tokens of editors are signed.
PUSH_TOKEN_SECRET = (BASE_DIR / "token-secret").read_text("utf-8").strip()

# -- Django and Wagtail -------------------------------------------------------------------------

DEBUG = True
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "django-insecure-for-this-example-only")
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = [
    "live",
    "articles",
    "wagtail.users",
    "wagtail.documents",
    "wagtail.images",
    "wagtail.admin",
    "wagtail.search",
    "wagtail.sites",
    "wagtail",
    "modelcluster",
    "taggit",
    "django_filters",
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
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
STATIC_URL = "static/"
MEDIA_ROOT = BASE_DIR / "media"
MEDIA_URL = "media/"
USE_TZ = True
WAGTAIL_SITE_NAME = "An example"
WAGTAILADMIN_BASE_URL = "http://127.0.0.1:8000"
