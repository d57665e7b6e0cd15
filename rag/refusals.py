"""Whether a language model's reply says, in any of some thirty languages, that it has no answer.

Models are told to say so in one fixed way; this is for those that do not.
"""

from __future__ import annotations

import re

_SAYS = {
    "en": r"\b(?:do(?:es)?|did|is|are|was|were|could|has|have)(?: not|n['’]t)\b[^.]*\b(?:said|say"
    r"|state|mention|contain|include|specif|provide|tell|answer|address|enough|sufficient|found"
    r"|indicate)|\b(?:cannot|can['’]t|unable to|not able to)\b[^.]*"
    r"\b(?:answer|find|tell|determine|say)"
    r"|\bno (?:information|mention|answer|evidence|indication)\b|\bi (?:do not|don['’]t) know\b",
    "de": r"\b(?:steht|finde[nt]?|geht|gibt|enthält|enthalten|sagen|sagt|erwähn\w+|nennt|nennen"
    r"|beantwort\w+|hervor|wird|werden|weiß|lässt)\b[^.]*\b(?:nicht|keine?[mnrs]?|nichts)\b"
    r"|\bkeine (?:angaben?|informationen?|antwort|auskunft|hinweise?)\b",
    "fr": r"\bne (?:\w+ )?(?:disent|dit|mentionn|contien|précis|permet|fourni|répond|sai)\w*"
    r"|\baucune information",
    "es": r"\bno (?:se )?(?:dicen?|menciona|contienen?|indica|especifica|responde|proporciona|sé"
    r"|hay informaci)",
    "pt": r"\bnão (?:se )?(?:diz|dizem|menciona|cont|indica|especifica|responde|sei|há informa)",
    "it": r"\bnon (?:lo )?(?:dic|menziona|conten|indica|specifica|rispond|forni|so\b"
    r"|ci sono informa|è possibile)",
    "ca": r"\bno (?:ho )?(?:diuen|esmenten|contenen)",
    "ro": r"\bnu (?:\w+ )?(?:spun|menționeaz|conțin|știu)",
    "nl": r"\b(?:staat|vermeld\w*|bevat\w*|zegt|zeggen|noem\w*|beantwoord\w*|weet)\b[^.]*"
    r"\b(?:niet|geen)\b",
    "sv": r"\b(?:nämn\w*|står|innehåll\w*|säg\w*|svarar|vet|framgår)\b[^.]*"
    r"\b(?:inte|ingen|inget)\b",
    "da, no": r"\b(?:nævn\w*|nevn\w*|står|indehold\w*|innehold\w*|siger|sier|ved|vet"
    r"|fremgår)\b[^.]*"
    r"\b(?:ikke|ingen)\b",
    "pl": r"\bnie (?:\w+ )?(?:mówi|podaj|zawiera|wspomina|odpowiada|wiem|wynika|ma informacji)"
    r"|\bbrak informacji",
    "cs": r"\b(?:neuvád|neobsah|nezmi|neříkaj|neodpovíd|nevím)",
    "ru": r"\bне (?:\w+ )?(?:сказано|говор|упомин|содерж|указ|отвеча|знаю)"
    r"|\bнет (?:информации|ответа|сведений)",
    "uk": r"\bне (?:містят|згаду|зазнач|вказ|знаю)",
    "tr": r"\b(?:belirtilm|yer alm|bulunm|geçm|söylem|içerm|bilm)[iıuü]?yor|\bbilgi (?:yok|bulunm)",
    "fi": r"\b(?:ei|eivät) (?:\w+ )?(?:kerro|mainit|sisäll|sano|vasta|tiedä)",
    "hu": r"\bnem (?:\w+ )?(?:mond|említ|tartalm|szerepel|válasz|tudom|derül)",
    "el": r"\bδεν (?:\w+ )?(?:αναφέρ|περιέχ|λέ|γνωρ|απαντ)",
    "ar": r"لا (?:تذكر|تحتوي|توجد|يوجد|تقول|يمكن|أعرف)",
    "he": r"לא (?:מצוין|נאמר|מוזכר|מופיע|ניתן|יודע)",
    "zh": r"(?:没有|未)(?:提|说|找|包含|相关|回答)|無法|无法|不知道",
    "ja": r"(?:記載|言及|情報|書かれ|述べ|含まれ|回答)[^。]*(?:ない|いません|ありません|できません)"
    r"|わかりません",
    "ko": r"(?:없습니다|않습니다|없다|모릅니다)",
    "vi": r"\bkhông (?:\w+ )?(?:nói|đề cập|chứa|có thông tin|biết)",
    "id": r"\btidak (?:\w+ )?(?:menyebut|memuat|mengandung|menjawab|ada informasi|tahu|ditemukan)",
}
_REFUSES = re.compile("|".join(_SAYS.values()), re.IGNORECASE)
_OF_DOCUMENTS = re.compile(
    r"\b(?:documents?|sources?|passages?|sentences?|texts?|articles?|context|dokumente?[ns]?|quellen?"
    r"|textstellen?|stellen|abschnitte?n?|sätze|artikel)\b",
    re.IGNORECASE,
)
_MARKERS = re.compile(r"\s*\[\d+\]")
_SENTENCE_ENDS = re.compile(r"[.!?](?:\s|$)|[。！？]")


def refuses_to_answer(text: str, *, cites: bool) -> bool:
    """Whether a model's reply says that it has no answer.

    One that ``cites`` may deny something: it refuses only if it says in one short sentence
    what the documents do not.
    """
    own = _MARKERS.sub("", text).strip()
    limit, most = (120, 1) if cites else (400, 3)
    if len(own) > limit or len(_SENTENCE_ENDS.findall(own)) > most:
        return False
    return bool(_REFUSES.search(own)) and (not cites or bool(_OF_DOCUMENTS.search(own)))
