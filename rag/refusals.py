"""Whether a language model's reply says, in any of some thirty languages, that it has no answer.

Models are told to say so in one fixed way; this is for those that do not.
"""

from __future__ import annotations

import re

from rag.pointers import POINTER

_SAYS = {
    "en": r"\b(?:do(?:es)?|did|is|are|was|were|could|has|have)(?: not|n['’]t)\b[^.]*\b(?:said|say"
    r"|state|mention|contain|include|specif|provide|tell|answer|address|enough|sufficient|found"
    r"|indicate)|\b(?:cannot|can['’]t|unable to|not able to)\b[^.]*"
    r"\b(?:answer|find|tell|determine|say)"
    r"|\bno (?:information|mention|answer|evidence|indication)\b|\bi (?:do not|don['’]t) know\b",
    "de": r"\b(?:steht|finde[nt]?|gibt|enthält|enthalten|sagen|sagt|erwähn\w+|nennt|nennen"
    r"|beantwort\w+|hervor|weiß)\b[^.]*\b(?:nicht|keine?[mnrs]?|nichts)\b"
    r"|\bgeht\b[^.]*\b(?:nicht|nichts)\b[^.]*\bhervor\b"
    r"|\b(?:wird|werden|wurde|lässt|ist)\b[^.]*\b(?:nicht|keine?[mnrs]?|nichts)\b[^.]*"
    r"\b(?:erwähnt|genannt|gesagt|angegeben|beantwort\w+|entnehmen|sagen|feststellen)\b"
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
_DOCUMENTS = {
    "en": r"\b(?:the|these|those|any|no|provided|given|available|numbered)(?: \w+)?"
    r" (?:documents|sources|passages|excerpts|texts)\b"
    r"|\b(?:documents|sources|passages) (?:do not|don['’]t|did not|provide no|contain no)\b"
    r"|\bthe (?:given |provided )?(?:text|document|passage|source|article|context)"
    r" (?:does not|doesn['’]t) (?:say|state|mention|specify|tell|indicate)\b",
    "de": r"\b(?:dokumente?n?|quellen|textstellen|abschnitten|auszügen?|texten?)\b(?! (?:nr|\d))"
    r"|\b(?:der text|das dokument) (?:sagt|nennt|erwähnt)\b",
    "fr": r"\bles (?:documents|sources|passages|textes|extraits)\b",
    "es": r"\blos (?:documentos|textos|pasajes|fragmentos)\b|\blas fuentes\b",
    "pt": r"\bos (?:documentos|textos|trechos)\b|\bas (?:fontes|passagens)\b",
    "it": r"\b(?:i documenti|le fonti|i testi|i passaggi|i brani)\b",
    "ca": r"\b(?:els documents|les fonts|els textos)\b",
    "ro": r"\b(?:documentele|sursele|textele|pasajele)\b",
    "nl": r"\bde (?:documenten|bronnen|teksten|passages)\b",
    "sv": r"\b(?:dokumenten|källorna|texterna)\b",
    "da, no": r"\b(?:dokument(?:erne|ene)|kilde(?:rne|ne)|tekst(?:erne|ene))\b",
    "pl": r"\b(?:dokumenty|dokumentach|źródła|źródłach|teksty|tekstach)\b",
    "cs": r"\b(?:dokumenty|dokumentech|zdroje|zdrojích|texty|textech)\b",
    "ru": r"\b(?:документ(?:ы|ах)|источник(?:и|ах)|текст(?:ы|ах))\b",
    "uk": r"\b(?:документ(?:и|ах)|джерел(?:а|ах)|текст(?:и|ах))\b",
    "tr": r"\b(?:belgeler|kaynaklar|metinler)\w*",
    "fi": r"\b(?:asiakirjat|asiakirjoissa|lähteet|lähteissä|dokumentit|dokumenteissa)\b",
    "hu": r"\b(?:dokumentumok|források|szövegek)\w*",
    "el": r"\b(?:έγγραφα|πηγές|κείμενα)\b",
    "ar": r"(?:الوثائق|المستندات|المصادر|النصوص)",
    "he": r"(?:מסמכים|מקורות)",
    "zh": r"(?:文件|文档|文檔|文献|资料|来源)",
    "ja": r"(?:文書|文献|資料|出典)",
    "ko": r"(?:문서|자료|출처)",
    "vi": r"(?:tài liệu|nguồn|văn bản)",
    "id": r"\b(?:dokumen|sumber)\b",
}
"""All the documents together: "Article 5 does not provide ..." is an answer."""
_MINE = (
    r"\bi (?:do not|don['’]t|could not|couldn['’]t|cannot|can['’]t) (?:know|find|answer|tell)\b"
    r"|\bthere is no information about (?:that|this|it)\b"
    r"|\b(?:finde|weiß|kann) ich\b|\bich (?:finde|weiß|kann)\b"
)
_OF_DOCUMENTS = re.compile("|".join([*_DOCUMENTS.values(), _MINE]), re.IGNORECASE)
_BUT = re.compile(
    r"\b(?:but|however|although|except|aber|jedoch|doch|sondern|allerdings|außer|mais|pero|sino|mas|ma"
    r"|però|maar|men|ale|но|але|ama|mutta)\b",
    re.IGNORECASE,
)
"""After it comes what they do say."""
_MARKERS = re.compile(r"\s*\[\d+\]")
_SENTENCE_ENDS = re.compile(r"[.!?](?:\s|$)|[。！？]")
NO_ANSWER = "NO_ANSWER"
"""What a model is told to reply where it has no answer."""


def has_no_answer(text: str) -> bool:
    """Whether a reply with pointers is that word, or begins with it and points at nothing."""
    own = POINTER.sub("", text).strip(" \n\t.!*_`\"'")
    return own == NO_ANSWER or (own.startswith(NO_ANSWER) and not POINTER.search(text))


def refuses_to_answer(text: str, *, cites: bool) -> bool:
    """Whether a model's reply says that it has no answer.

    One that ``cites`` may deny something: it refuses only if its first sentence says, and
    nothing else, what the documents do not. Whether its source says just that is not looked at.
    """
    own = _MARKERS.sub("", text).strip()
    if cites:
        end = _SENTENCE_ENDS.search(own)
        first = own[: end.end()] if end else own
        denies = len(first) <= 120 and _REFUSES.search(first) and not _BUT.search(first)
        return bool(denies and _OF_DOCUMENTS.search(first))
    if len(own) > 400 or len(_SENTENCE_ENDS.findall(own)) > 3:
        return False
    return bool(_REFUSES.search(own))
