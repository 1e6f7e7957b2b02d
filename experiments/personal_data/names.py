"""How many names of people the model of a run finds, for masking: Faker's names in our own sentences.

    python experiments/personal_data/names.py RUN [--of-language 70] [--seed 0]

A name counts as masked if not one letter of it is left.
"""

from __future__ import annotations

import argparse
from collections import Counter

from generate import AROUND, LOCALES, Values

from peftlab.personal_data.masker import Masker
from peftlab.use.person_names import names_of

SENTENCES = {
    "en": ["{} called about the invoice.", "Please ask {} in accounting.", "I spoke to {} yesterday."],
    "gb": ["{} has moved to Leeds.", "The form was signed by {}.", "Regards, {}"],
    "de": ["{} hat gestern angerufen.", "Ich habe mit {} gesprochen.", "Viele Grüße, {}"],
    "fr": ["{} a appelé hier.", "J'ai parlé avec {}.", "Cordialement, {}"],
    "es": ["{} llamó ayer.", "Hablé con {} en la oficina.", "Saludos, {}"],
    "it": ["{} ha chiamato ieri.", "Ho parlato con {}.", "Cordiali saluti, {}"],
    "nl": ["{} heeft gisteren gebeld.", "Ik sprak met {}.", "Groeten, {}"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--of-language", type=int, default=70)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    values, texts, spans = Values(options.seed), [], []
    for language in LOCALES:
        for n in range(options.of_language):
            sentence = SENTENCES[language][n % 3]
            name = values.name(language)
            texts.append((language, sentence.format(name)))
            spans.append((sentence.index("{}"), sentence.index("{}") + len(name)))
    masker = Masker(kinds=("name",), names=names_of(options.run))
    whole, alarms = Counter[str](), 0
    results = masker.masks([text for _, text in texts])
    for (language, text), (start, end), masked in zip(texts, spans, results, strict=True):
        covered = {place for one in masked.found for place in range(one.start, one.end)}
        whole[language] += all(place in covered for place in range(start, end) if text[place].isalpha())
        alarms += sum(one.end <= start or one.start >= end for one in masked.found)
    for language in LOCALES:
        print(f"{language}: {whole[language]} of {options.of_language} names masked")
    print(f"all: {whole.total()} of {len(texts)}; {alarms} false alarms")
    numbers = [text.format("it") for of_language in AROUND.values() for text in of_language]
    alarms = sum(len(one.found) for one in masker.masks(numbers))
    print(f"in {len(numbers)} sentences without a name: {alarms} false alarms")


if __name__ == "__main__":
    main()
