"""Filters for templates: `{% load live %}`."""

import json

from django import template

register = template.Library()
register.filter("to_json", json.dumps, is_safe=False)
