"""First names of people from many places, by gender, from Faker."""

from __future__ import annotations

import importlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from peftlab.errors import UserError, did_you_mean

PLACES: Mapping[str, tuple[str, ...]] = {
    "br": ("pt_BR",),
    "cn": ("zh_CN",),
    "de": ("de_DE",),
    "es": ("es_ES",),
    "fr": ("fr_FR",),
    "gb": ("en_GB",),
    "id": ("id_ID",),
    "in": ("en_IN",),
    "it": ("it_IT",),
    "jp": ("ja_JP",),
    "ng": ("yo_NG", "ig_NG", "ha_NG"),
    "pl": ("pl_PL",),
    "tr": ("tr_TR",),
    "us": ("en_US",),
}
"""Places, and Faker's locales with names from there in Latin letters, or such as can be written in them."""

GENDERS = ("female", "male")

_PINYIN = """
    东dong 丹dan 丽li 云yun 亮liang 伟wei 佳jia 俊jun 倩qian 健jian 兰lan 兵bing 军jun
    冬dong 凤feng 凯kai 刚gang 利li 勇yong 华hua 博bo 国guo 坤kun 娜na 娟juan 婷ting
    宁ning 宇yu 小xiao 岩yan 峰feng 帅shuai 帆fan 平ping 建jian 强qiang 彬bin 志zhi 想xiang
    慧hui 成cheng 敏min 文wen 斌bin 旭xu 明ming 春chun 晨chen 晶jing 杨yang 杰jie 林lin
    柳liu 桂gui 梅mei 楠nan 欢huan 欣xin 波bo 洁jie 洋yang 浩hao 海hai 涛tao 淑shu
    燕yan 玉yu 玲ling 珍zhen 琳lin 琴qin 瑜yu 瑞rui 璐lu 畅chang 磊lei 秀xiu 红hong
    艳yan 芝zhi 花hua 芳fang 英ying 荣rong 莉li 莹ying 萍ping 超chao 辉hui 金jin 鑫xin
    阳yang 雪xue 雷lei 霞xia 静jing 颖ying 飞fei 香xiang 鹏peng 龙long
"""
_SOUNDS = {pair[0]: pair[1:] for pair in _PINYIN.split()}


class Name(NamedTuple):
    """A first name, in Latin letters."""

    text: str
    place: str
    gender: str


def people(places: Sequence[str], number: int = 40, seed: int = 0) -> list[Name]:
    """Return up to `number` first names of each place and gender, drawn by `seed`: a larger number has the smaller.

    A name that several of these groups have, such as Andrea, is in none. Names in other letters are written as they
    sound, for a model of another language would see the letters before the name.

    Raises:
        UserError: `number` is below 2, Faker is missing, there is no such place, its names cannot be written in Latin
            letters, or fewer than two are left of a group.
    """
    if len(set(places)) < len(places) or not places:
        raise UserError(f"--places {','.join(places)}: name each place once")
    if number < 2:
        raise UserError(f"--names {number}: a group of one name shows nothing of other names; at least two are needed")
    pools = {(place, gender): _of(place, gender) for place in places for gender in GENDERS}
    holders = Counter(name for pool in pools.values() for name in pool)
    names = []
    for (place, gender), pool in pools.items():
        own = sorted(name for name in pool if holders[name] == 1)
        if len(own) < 2:
            raise UserError(f"--places: Faker has {len(own)} {gender} names of {place} that no other group has")
        random = np.random.default_rng([seed, GENDERS.index(gender), *place.encode()])
        names += [Name(own[n], place, gender) for n in random.permutation(len(own))[:number].tolist()]
    return names


def _of(place: str, gender: str) -> set[str]:
    """Return all names of a place and gender that are one word."""
    locales = PLACES.get(place, (place,))
    names = {
        written
        for locale in locales
        for name in _listed(place, _provider(place, locale), gender)
        if (written := _in_latin_letters(place, name)) and written.isalpha()
    }
    return names


def _provider(place: str, locale: str) -> Any:
    try:
        importlib.import_module("faker.providers.person")
    except ImportError as error:
        raise UserError("names of many places need the package Faker: pip install 'peftlab[fairness]'") from error
    try:
        if not locale.replace("_", "").isalpha():
            raise ModuleNotFoundError(locale)
        return importlib.import_module(f"faker.providers.person.{locale}").Provider
    except ModuleNotFoundError:
        raise UserError(
            f"--places {place}: there is no such place.{did_you_mean(place, PLACES)} Allowed: {', '.join(PLACES)}, or "
            "a locale of Faker, such as sv_SE"
        ) from None


def _listed(place: str, provider: Any, gender: str) -> list[str]:
    """Return a provider's names, as it writes them in Latin letters where it does."""
    for attribute in (f"first_romanized_names_{gender}", f"first_names_{gender}"):
        if names := getattr(provider, attribute, None):
            return list(names)
    raise UserError(f"--places {place}: Faker does not say which of these names are {gender}")


def _in_latin_letters(place: str, name: str) -> str:
    """Return a name in Latin letters, composed."""
    if all(character in _SOUNDS for character in name):
        return "".join(_SOUNDS[character] for character in name).capitalize()
    written = unicodedata.normalize("NFC", name)
    if strange := [one for one in written if one.isalpha() and "LATIN" not in unicodedata.name(one, "")]:
        raise UserError(
            f"--places {place}: its names are not in Latin letters ('{name}'), and a model would be measured by the "
            f"letters ({unicodedata.name(strange[0], '?').title()}) rather than by the names. Choose another place: "
            f"{', '.join(PLACES)}"
        )
    return written
