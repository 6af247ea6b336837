"""Names of languages: what models call them, and what ISO 639-1 calls them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_M2M100 = (
    "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu "
    "ha he hi hr ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr "
    "ms my ne nl no ns oc or pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk "
    "ur uz vi wo xh yi yo zh zu"
)
M2M100: Final = _M2M100.split()
"""The languages of M2M-100 in the order of their ids, which its files do not hold."""

_WMT21 = "en ha is ja cs ru zh de"
WMT21: Final = _WMT21.split()
"""The same of the models of its kind that were made for WMT 2021."""

_MBART50 = (
    "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT "
    "lv_LV my_MM ne_NP nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN af_ZA az_AZ bn_IN fa_IR he_IL "
    "hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF pt_XX sv_SE sw_KE ta_IN te_IN "
    "th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI"
)
MBART50: Final = _MBART50.split()
"""The languages of mBART-50, likewise."""

_PAIRS = (
    "afr:af amh:am arb:ar ara:ar asm:as azj:az aze:az bak:ba bel:be ben:bn bod:bo bos:bs "
    "bul:bg cat:ca ces:cs cym:cy dan:da deu:de dzo:dz ell:el eng:en epo:eo est:et eus:eu "
    "ewe:ee fao:fo fij:fj fin:fi fra:fr gaz:om gla:gd gle:ga glg:gl grn:gn guj:gu hat:ht "
    "hau:ha heb:he hin:hi hrv:hr hun:hu hye:hy ibo:ig ind:id isl:is ita:it jav:jv jpn:ja "
    "kan:kn kas:ks kat:ka kaz:kk khk:mn mon:mn khm:km kik:ki kin:rw kir:ky knc:kr kon:kg "
    "kor:ko kmr:ku lao:lo lav:lv lim:li lin:ln lit:lt ltz:lb lug:lg lvs:lv mal:ml mar:mr "
    "mkd:mk plt:mg mlg:mg mlt:mt mri:mi zsm:ms msa:ms mya:my nld:nl nno:nn nob:nb npi:ne "
    "nep:ne nya:ny oci:oc ory:or ori:or pan:pa pes:fa fas:fa pol:pl por:pt pbt:ps pus:ps "
    "quy:qu ron:ro run:rn rus:ru sag:sg san:sa sin:si slk:sk slv:sl smo:sm sna:sn snd:sd "
    "som:so sot:st spa:es als:sq sqi:sq srd:sc srp:sr ssw:ss sun:su swe:sv swh:sw swa:sw "
    "tam:ta tat:tt tel:te tgk:tg tgl:tl tha:th tir:ti tsn:tn tso:ts tuk:tk tur:tr twi:tw "
    "uig:ug ukr:uk urd:ur uzn:uz uzb:uz vie:vi wol:wo xho:xh ydd:yi yid:yi yor:yo zho:zh "
    "cmn:zh zul:zu"
)
_TWO_LETTERS: Final[Mapping[str, str]] = dict(pair.split(":") for pair in _PAIRS.split())
"""Of ISO 639-3 codes, those of single languages that stand for the whole included."""

_OTHER_CODES = (
    "alb:sq arm:hy baq:eu bur:my chi:zh cze:cs dut:nl fre:fr geo:ka ger:de gre:el ice:is mac:mk "
    "mao:mi may:ms per:fa rum:ro slo:sk tib:bo wel:cy nor:no fil:tl iw:he in:id ji:yi jw:jv mo:ro"
)
_BIBLIOGRAPHIC: Final[Mapping[str, str]] = dict(pair.split(":") for pair in _OTHER_CODES.split())
"""The other codes of ISO 639-2 (bibliographic), and codes that ISO 639-1 has withdrawn."""

_RELATED: Final[Mapping[str, str]] = {"nb": "no", "no": "nb"}
"""What a language is called where a model does not name it itself."""

_SCRIPTS: Final[Mapping[tuple[str, str], str]] = {
    **{("zh", region): "hans" for region in ("cn", "sg", "my")},
    **{("zh", region): "hant" for region in ("tw", "hk", "mo")},
}
"""The script that a language is written in, by region (CLDR, likely subtags)."""

_USUAL_SCRIPTS: Final = frozenset(("latn", "cyrl", "arab", "deva", "jpan", "hang"))

_EXTENDED, _SCRIPT, _REGION, _AREA = 3, 4, 2, 3
_NO_REGION = "xx"
"""In codes of mBART."""


@dataclass(frozen=True, slots=True)
class _Tag:
    language: str
    """ISO 639-1 where it has one."""
    script: str | None = None
    region: str | None = None

    @property
    def likely_script(self) -> str | None:
        return self.script or _SCRIPTS.get((self.language, self.region or ""))


def _parsed(code: str) -> _Tag:
    """Return what a BCP 47 tag, or a model's code such as `eng_Latn` or `en_XX`, says."""
    primary, *subtags = code.lower().replace("-", "_").split("_")
    if subtags and len(subtags[0]) == _EXTENDED and subtags[0].isalpha():
        primary = subtags.pop(0)  # zh-cmn, ar-arb
    script = region = None
    for subtag in subtags:
        if len(subtag) == 1:  # an extension, which names no language
            break
        if len(subtag) == _SCRIPT and subtag.isalpha():
            script = subtag
        elif (len(subtag) == _REGION and subtag.isalpha()) or (
            len(subtag) == _AREA and subtag.isdigit()
        ):
            region = subtag if subtag != _NO_REGION else None
    primary = _BIBLIOGRAPHIC.get(primary, primary)
    return _Tag(_TWO_LETTERS.get(primary, primary), script, region)


def plain_code(code: str) -> str:
    """Return the language of a code such as `eng_Latn`, `en_XX`, `fra`; of two letters if it can.

    A script or a region is left out, so that several codes may come to the same.
    """
    return _parsed(code).language


def language_tag(code: str) -> str:
    """Return a model's code as a BCP 47 tag: `zho_Hans` is `zh-Hans`.

    A script in which the language is written anyway, such as Latin letters, is left out.
    """
    tag = _parsed(code)
    script = None if tag.script in _USUAL_SCRIPTS else tag.script
    parts = [tag.language, script.title() if script else None, tag.region and tag.region.upper()]
    return "-".join(part for part in parts if part)


@lru_cache(maxsize=1024)
def meant_by(tag: str, codes: tuple[str, ...]) -> Sequence[str]:
    """Return which of a model's codes a BCP 47 tag means: one, none, or several if it is unclear.

    Case and `-` or `_` make no difference. Codes of the same language count if their script does
    not contradict the tag. Of these, codes of the tag's region come first, then those without any,
    then the others.
    """
    plain = tag.lower().replace("-", "_")
    if exact := [code for code in codes if code.lower().replace("-", "_") == plain]:
        return exact
    wanted = _parsed(tag)
    known = [(code, _parsed(code)) for code in codes]
    for language in (wanted.language, _RELATED.get(wanted.language)):
        same = [(code, own) for code, own in known if own.language == language]
        if same:
            return _nearest(wanted, same)
    return []


def _nearest(wanted: _Tag, same: Sequence[tuple[str, _Tag]]) -> Sequence[str]:
    script = wanted.likely_script
    fitting = [
        (code, own) for code, own in same if not script or own.likely_script in (None, script)
    ]
    for region in (wanted.region, None):
        of_region = [(code, own) for code, own in fitting if own.region == region]
        if of_region:
            fitting = of_region
            break
    of_script = [code for code, own in fitting if own.likely_script == script]
    return of_script or [code for code, _ in fitting]
