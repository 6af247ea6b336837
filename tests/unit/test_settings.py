import re
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.cache.redis import LONGEST_GET, RedisOptions
from service.requests.admission import ApiLimits
from service.settings import (
    AdminSettings,
    Settings,
    SettingsError,
    read_settings,
    settings_table,
    split_options,
)
from service.transforms.vision.image import DECODING
from tests.sentences import sentence


def test_without_anything_set_the_defaults_hold() -> None:
    assert read_settings({"PATH": "/bin", "HOME": "/"}) == Settings()


def test_the_environment_sets_fields_of_sections() -> None:
    settings = read_settings(
        {
            "QUARTET_SERVER__PORT": "9000",
            "QUARTET_CACHE__ENABLED": "false",
            "QUARTET_CACHE__REDIS_URL": "redis://cache:6379/1",
            "QUARTET_MODELS__REPOSITORY": "/srv/models",
            "QUARTET_MODELS__ONLY": "zh-en, digits",
            "QUARTET_MODELS__VERSIONS": "digits=2,zh-en=1",
            "QUARTET_MODELS__DEFAULTS": "classify.image=digits",
            "QUARTET_BATCHING__MAX_QUEUE_DELAY_MS": "2.5",
            "QUARTET_ADMIN__TOKEN": "open sesame",
        }
    )
    assert settings.server.port == 9000
    assert not settings.cache.enabled
    assert settings.cache.redis_url == "redis://cache:6379/1"
    assert settings.models.repository == Path("/srv/models")
    assert settings.models.only == ("zh-en", "digits")
    assert settings.models.versions == {"digits": 2, "zh-en": 1}
    assert settings.models.defaults == {"classify.image": "digits"}
    assert settings.batching.max_queue_delay_ms == 2.5
    assert settings.admin.read_token() == "open sesame"


def test_the_command_line_wins() -> None:
    environ = {"QUARTET_SERVER__PORT": "9000", "QUARTET_SERVER__HOST": "0.0.0.0"}
    settings = read_settings(environ, {"server.port": "9001"})
    assert (settings.server.host, settings.server.port) == ("0.0.0.0", 9001)


def test_an_empty_value_is_as_good_as_none() -> None:
    environ = {"QUARTET_CACHE__REDIS_URL": "", "QUARTET_SERVER__PORT": ""}
    assert read_settings(environ) == Settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().server.port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        Settings().server = Settings().server  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("QUARTET_CACH__TTL_SECONDS", "QUARTET_CACHE__TTL_SECONDS"),
        ("QUARTET_CACHE__URLL", "QUARTET_CACHE__REDIS_URL"),
        ("QUARTET_CACHE_REDIS_URL", "QUARTET_CACHE__REDIS_URL"),
        ("QUARTET_SERVER__PROT", "QUARTET_SERVER__PORT"),
        ("quartet_server__port", "QUARTET_SERVER__PORT"),
        ("QUARTET_MODELS__DEVISE", "QUARTET_MODELS__DEVICE"),
        ("QUARTET_SERVER_PORT", "QUARTET_SERVER__PORT"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_nearest_right_one(name: str, right: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        read_settings({name: "1"})
    assert str(refusal.value) == f"{name} is no setting; did you mean {right}?"


def test_a_variable_like_no_setting_is_refused_too() -> None:
    with pytest.raises(SettingsError, check=sentence):
        read_settings({"QUARTET_XYZZY": "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QUARTET_SERVICE_HOST", "10.0.0.1"),
        ("QUARTET_SERVICE_PORT", "8000"),
        ("QUARTET_SERVICE_PORT_HTTP", "8000"),
        ("QUARTET_PORT", "tcp://10.0.0.1:8000"),
        ("QUARTET_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
        ("QUARTET_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("QUARTET_CANARY_SERVICE_HOST", "10.0.0.1"),
    ],
)
def test_what_kubernetes_sets_for_a_service_of_this_name_is_ignored(name: str, value: str) -> None:
    assert read_settings({name: value}) == Settings()


@pytest.mark.parametrize(
    ("environ", "options"),
    [
        ({"QUARTET_SERVER__PORT": "x"}, {}),
        ({}, {"server.port": "70000"}),
        ({"QUARTET_CACHE__ENABLED": "maybe"}, {}),
        ({"QUARTET_CACHE__TTL_SECONDS": "0"}, {}),
        ({"QUARTET_CACHE__TTL_SECONDS": "inf"}, {}),
        ({"QUARTET_CACHE__REDIS_TIMEOUT_MS": "60"}, {}),
        ({"QUARTET_MODELS__PRECISION": "fp8"}, {}),
        ({}, {"models.versions": "a=x"}),
        ({}, {"models.versions": "a"}),
        ({}, {"models.versions": "=1"}),
        ({"QUARTET_MODELS__DEFAULTS": "clasify.text=a"}, {}),
        ({"QUARTET_LIMITS__MAX_TIMEOUT_SECONDS": "1"}, {}),
        ({"QUARTET_ADMIN__TOKEN": "x", "QUARTET_ADMIN__TOKEN_FILE": "y"}, {}),
    ],
)
def test_a_wrong_value_is_refused_under_the_name_it_was_set_by(
    environ: dict[str, str], options: dict[str, str]
) -> None:
    with pytest.raises(SettingsError) as refusal:
        read_settings(environ, options)
    assert sentence(str(refusal.value))


def test_no_secret_shows_in_an_error_or_in_the_settings_themselves() -> None:
    with pytest.raises(SettingsError) as refusal:
        read_settings({"QUARTET_CACHE__REDIS_URL": "http://user:hunter2@cache"})
    assert "hunter2" not in str(refusal.value)
    settings = read_settings(
        {
            "QUARTET_CACHE__REDIS_URL": "redis://user:hunter2@cache",
            "QUARTET_CACHE__REDIS_SECRET": "hunter2",
            "QUARTET_ADMIN__TOKEN": "hunter2",
        }
    )
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cache.ttl-seconds", "5"],
        ["--cache.ttl-seconds=5"],
        ["--cache.ttl_seconds", "5"],
        ["--cache-ttl-seconds", "5"],
        ["--cache.ttl-seconds", "4", "--cache.ttl-seconds", "5"],
    ],
)
def test_an_option_may_be_written_in_several_ways(arguments: list[str]) -> None:
    assert split_options(arguments) == ({"cache.ttl_seconds": "5"}, [])


def test_arguments_that_are_no_settings_are_left() -> None:
    given, left = split_options(["models", "--server.port", "1", "check", "a", "--help", "-h"])
    assert given == {"server.port": "1"}
    assert left == ["models", "check", "a", "--help", "-h"]


@pytest.mark.parametrize(
    ("arguments", "value", "left"),
    [
        (["--cache.enabled", "false", "a"], "false", ["a"]),
        (["--cache.enabled", "a"], "true", ["a"]),
        (["--cache.enabled"], "true", []),
        (["--cache.enabled=false"], "false", []),
    ],
)
def test_a_switch_may_go_without_its_value(
    arguments: list[str], value: str, left: list[str]
) -> None:
    assert split_options(arguments) == ({"cache.enabled": value}, left)


@pytest.mark.parametrize(
    ("option", "right"),
    [
        ("--server.prot", "--server.port"),
        ("--port", "--server.port"),
        ("--cache.redis", "--cache.redis-url"),
        ("--models.repo", "--models.repository"),
    ],
)
def test_a_misspelt_option_is_refused_with_the_nearest_right_one(option: str, right: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        split_options([option, "1"])
    assert str(refusal.value) == f"{option} is no setting; did you mean {right}?"


@pytest.mark.parametrize("rest", [[], ["--server.host", "x"]])
def test_an_option_without_its_value_is_refused(rest: list[str]) -> None:
    with pytest.raises(SettingsError, check=sentence):
        split_options(["--server.port", *rest])


def test_a_secret_is_refused_on_the_command_line_where_everybody_could_read_it() -> None:
    with pytest.raises(SettingsError, match="QUARTET_ADMIN__TOKEN"):
        split_options(["--admin.token", "hunter2"])


def test_no_two_settings_share_an_option() -> None:
    plain = [re.sub(r"[._]", "-", row.option) for row in settings_table() if row.option]
    assert len(plain) == len(set(plain))


def test_the_administrators_token_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("open sesame\n")
    assert AdminSettings(token_file=tmp_path / "token").read_token() == "open sesame"
    assert AdminSettings().read_token() is None


@pytest.mark.parametrize("content", [None, "\n"])
def test_a_token_file_without_a_token_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    with pytest.raises(SettingsError, match=r"admin\.token_file"):
        AdminSettings(token_file=tmp_path / "token").read_token()


def test_the_limits_and_their_defaults_are_those_of_the_http_border() -> None:
    limits = Settings().limits.model_dump()
    assert limits == {field.name: field.default for field in fields(ApiLimits)}


def test_as_many_pixels_are_decoded_at_once_as_the_decoder_itself_would() -> None:
    assert Settings().models.max_decoding_pixels == DECODING.most


def test_the_cache_s_defaults_are_those_of_its_levels() -> None:
    cache, redis = Settings().cache, RedisOptions("redis://x")
    assert cache.redis_timeout_ms == redis.get_timeout * 1000
    assert cache.ttl_seconds == redis.ttl
    assert cache.redis_prefix == redis.prefix
    assert cache.redis_readers == redis.readers
    with pytest.raises(SettingsError):
        read_settings({"QUARTET_CACHE__REDIS_TIMEOUT_MS": str(LONGEST_GET * 1000 + 1)})


def test_every_setting_says_what_it_is() -> None:
    assert [row.environment for row in settings_table() if not row.description] == []


def test_a_setting_that_is_a_quantity_names_its_unit() -> None:
    units = ("_seconds", "_ms", "_bytes", "_pixels", "_characters", "_items", "_entries", "_depth")
    units += ("_per_second", "_ratio", "_segments", "_videos", "_streams")
    plain = {
        "port",
        "backlog",
        "processes",
        "threads",
        "max_batch_size",
        "max_queue_size",
        "redis_readers",
    }
    quantities = [
        name
        for section in Settings.model_fields.values()
        for name, field in type(section.default).model_fields.items()
        if re.match(r"(int|float)\b", str(getattr(field.annotation, "__name__", field.annotation)))
    ]
    assert {name for name in quantities if not name.endswith(units)} <= plain
    assert len(quantities) > 15
