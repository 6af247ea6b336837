"""Any usual tag finds the one code that it means, and no other."""

import pytest

from service.transforms.language.languages import M2M100, MBART50, meant_by, plain_code

NLLB = ("eng_Latn", "zho_Hans", "zho_Hant", "yue_Hant", "por_Latn", "arb_Arab", "nob_Latn")
GROUP = ("fr", "fr_BE", "fr_CA", "pt_br", "pt_PT", "es_MX")


@pytest.mark.parametrize(
    "tag",
    ["zh", "ZH", "zh-CN", "zh_CN", "zh-Hans", "ZH_HANS", "zh-Hans-CN", "zho", "chi", "cmn",
     "cmn_Hans", "zh-cmn", "zh-cmn-Hans-CN", "zh-TW", "zh-Hant", "zh-x-private", "zh-u-nu-hanidec"],
)  # fmt: skip
def test_a_model_of_one_language_knows_it_by_every_name(tag: str) -> None:
    assert meant_by(tag, ("zh",)) == ["zh"]


@pytest.mark.parametrize(
    ("tag", "codes", "found"),
    [
        ("en-US", ("en",), "en"),
        ("eng", ("en",), "en"),
        ("en_GB", ("en_XX",), "en_XX"),
        ("pt-BR", ("pt",), "pt"),
        ("pt-PT", ("pt_br",), "pt_br"),
        ("PT-br", GROUP, "pt_br"),
        ("fr", GROUP, "fr"),
        ("fra", GROUP, "fr"),
        ("fr-CH", GROUP, "fr"),
        ("fr-be", GROUP, "fr_BE"),
        ("es", GROUP, "es_MX"),
        ("zh-CN", NLLB, "zho_Hans"),
        ("zh-HK", NLLB, "zho_Hant"),
        ("cmn-Hant", NLLB, "zho_Hant"),
        ("zh-yue", NLLB, "yue_Hant"),
        ("en-US", NLLB, "eng_Latn"),
        ("ar-EG", NLLB, "arb_Arab"),
        ("no", NLLB, "nob_Latn"),
        ("zho", tuple(MBART50), "zh_CN"),
        ("ger", tuple(M2M100), "de"),
        ("iw", tuple(M2M100), "he"),
        ("fil", tuple(M2M100), "tl"),
        ("nb-NO", tuple(M2M100), "no"),
        ("es-419", ("es",), "es"),
    ],
)
def test_a_tag_finds_the_code_it_means(tag: str, codes: tuple[str, ...], found: str) -> None:
    assert meant_by(tag, codes) == [found]


@pytest.mark.parametrize(
    ("tag", "codes", "found"),
    [
        ("zh", NLLB, ["zho_Hans", "zho_Hant"]),
        ("pt", GROUP, ["pt_br", "pt_PT"]),
        ("pt-AO", GROUP, ["pt_br", "pt_PT"]),
        ("zh-Hant", ("zho_Hans",), []),
        ("zh-TW", ("zh_CN",), []),
        ("de", NLLB, []),
        ("enm", ("en",), []),
        ("", ("en",), []),
        ("-", ("en",), []),
        ("yue", ("zh",), []),
    ],
)
def test_what_is_unclear_or_unknown_is_not_guessed(
    tag: str, codes: tuple[str, ...], found: list[str]
) -> None:
    assert meant_by(tag, codes) == found


@pytest.mark.parametrize("codes", [NLLB, GROUP, tuple(M2M100), tuple(MBART50)])
def test_a_code_of_the_model_means_itself(codes: tuple[str, ...]) -> None:
    for code in codes:
        assert meant_by(code.swapcase().replace("_", "-"), codes) == [code]


def test_a_plain_code_is_of_two_letters_where_there_is_one() -> None:
    found = [
        plain_code(code) for code in ("eng_Latn", "en_XX", "fra", "zh-cmn", "yue_Hant", "ROMANCE")
    ]
    assert found == ["en", "en", "fr", "zh", "yue", "romance"]
