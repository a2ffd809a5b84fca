"""Settings from the environment, over those of the file."""

from __future__ import annotations

import pytest

from tests.unit.config.reading import KEY, OTHER_KEY, SECRET, faults, read, site
from twisted_push.errors import ConfigErrors


def test_the_environment_alone_can_configure_a_server() -> None:
    config = read(
        environ={
            "TWISTED_PUSH_SITES__DEFAULT__KEY": KEY,
            "TWISTED_PUSH_LISTEN": "tcp:80, tcp6:80",
            "TWISTED_PUSH_LIMITS__MAX_CONNECTIONS": "12",
            "TWISTED_PUSH_LIMITS__PING_INTERVAL": "30",
            "TWISTED_PUSH_DEBUG_ECHO": "true",
            "TWISTED_PUSH_SITES__DEFAULT__CALLBACK__URL": "http://cms/",
            "TWISTED_PUSH_SITES__DEFAULT__ALLOWED_ORIGINS": "",
            "TWISTED_PUSH_CONFIG": "of the command line",
            "TWISTED_PUSH_KEY": "of the command line",
            "TWISTED_PUSH_URL": "of the command line",
            "PATH": "/bin",
        }
    )
    assert config.listen == ("tcp:80", "tcp6:80")
    assert (config.limits.max_connections, config.limits.ping_interval) == (12, 30.0)
    assert config.debug_echo
    assert config.sites["default"].keys[0].key == KEY
    assert config.sites["default"].callback is not None
    assert config.sites["default"].allowed_origins == ()


def test_the_environment_overrides_the_file() -> None:
    text = 'log_level = "warn"\n' + site("hosts = ['x']", "My-Site")
    environ = {"TWISTED_PUSH_SITES__MY_SITE__KEY": OTHER_KEY, "TWISTED_PUSH_LOG_LEVEL": "debug"}
    config = read(text, environ)
    assert config.log_level == "debug"
    assert list(config.sites) == ["My-Site"]
    assert config.sites["My-Site"].keys[0].key == OTHER_KEY
    assert config.sites["My-Site"].hosts == ("x",)


def test_a_secret_of_the_environment_replaces_the_files_in_either_form() -> None:
    by_file = {"TWISTED_PUSH_SITES__DEFAULT__KEY_FILE": "k"}
    assert read(site(""), by_file, {"k": OTHER_KEY}).sites["default"].keys[0].key == OTHER_KEY
    by_value = {"TWISTED_PUSH_SITES__DEFAULT__KEY": OTHER_KEY}
    text = "[sites.default]\nkey_file = 'k'"
    assert read(text, by_value).sites["default"].keys[0].key == OTHER_KEY
    assert list(faults("", by_file | by_value, {"k": KEY})) == ["sites.default.key"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "LOGLEVEL",
            "x",
            "loglevel: unknown key (from TWISTED_PUSH_LOGLEVEL); did you mean log_level?",
        ),
        (
            "LIMITS__PONG_TIMEOUT",
            "x",
            "limits.pong_timeout: 'x' is not valid; must be a number of seconds, or text such as "
            '"500ms", "10s", "10m", "1h" or "7d", above 0 (from TWISTED_PUSH_LIMITS__PONG_TIMEOUT)',
        ),
        ("LIMITS", "x", "limits: must be a table (from TWISTED_PUSH_LIMITS)"),
        (
            "LIMIT__PONG_TIMEOUT",
            "5s",
            "limit: unknown key (from TWISTED_PUSH_LIMIT__PONG_TIMEOUT); did you mean limits?",
        ),
        ("LISTEN__0", "x", "TWISTED_PUSH_LISTEN__0: no setting has this name"),
        ("", "x", "TWISTED_PUSH_: no setting has this name"),
        ("A____B", "x", "TWISTED_PUSH_A____B: no setting has this name"),
        (
            "SITES__DEFAULT__NAMESPACES",
            "chat",
            "sites.default.namespaces: must be a list of tables, and can only be given in the file"
            " (from TWISTED_PUSH_SITES__DEFAULT__NAMESPACES)",
        ),
    ],
)
def test_faults_of_the_environment(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        read("listen = ['tcp:80']\n" + site(""), {f"TWISTED_PUSH_{name}": value})
    assert str(caught.value) == message


def test_no_message_shows_a_secret_of_the_environment() -> None:
    for name in ("KEY", "KYE", "TOKEN_SECRET", "KEYS__0__KEY", "CALLBACK", "CALLBACK__BASIC_AUTH"):
        found = faults(environ={f"TWISTED_PUSH_SITES__DEFAULT__{name}": SECRET})
        assert SECRET not in str(found)


def test_variables_that_kubernetes_makes_for_a_service_are_not_ours() -> None:
    environ = {
        "TWISTED_PUSH_SERVICE_HOST": "10.0.0.11",
        "TWISTED_PUSH_SERVICE_PORT": "80",
        "TWISTED_PUSH_SERVICE_PORT_HTTP": "80",
        "TWISTED_PUSH_PORT": "tcp://10.0.0.11:80",
        "TWISTED_PUSH_PORT_80_TCP": "tcp://10.0.0.11:80",
        "TWISTED_PUSH_PORT_80_TCP_ADDR": "10.0.0.11",
        "TWISTED_PUSH_BACKEND_SERVICE_HOST": "10.0.0.12",
    }
    assert read(site(""), environ) == read(site(""))
