"""The same text gets the same verdict in every script: loops, repetition, words."""

from __future__ import annotations

import pytest

from steer_heal_love.maths.diversity import self_bleu, split_words
from steer_heal_love.maths.repetition import is_loop, loop_spans, word_repetition

# Language: (a frame that loops when it is filled eight times, eight words for it, a sound text).
TEXTS: dict[str, tuple[str, str, str]] = {
    "English": (
        "I really care about your {} because you matter to me. ",
        "feelings life work family dreams body friends tomorrow",
        "Good morning. The bus was late today, so I walked by the river and thought of our talk.",
    ),
    "Russian": (
        "Мне очень важна твоя {} потому что ты мне дорог. ",
        "жизнь работа семья мечта радость усталость дорога надежда",
        "Доброе утро. Автобус сегодня опоздал, и я пошёл вдоль реки, вспоминая наш разговор.",
    ),
    "Greek": (
        "Με νοιάζει πολύ για {} σου γιατί σημαίνεις πολλά για μένα. ",
        "τη_ζωή τη_δουλειά το_σπίτι τα_όνειρα το_σώμα τους_φίλους το_αύριο τη_χαρά",
        "Καλημέρα. Το λεωφορείο άργησε σήμερα και περπάτησα δίπλα στο ποτάμι με τη σκέψη σου.",
    ),
    "Arabic": (
        "أنا حقا أهتم كثيرا بأمر {} لأنك مهم بالنسبة لي. ",
        "حياتك عملك عائلتك أحلامك صحتك أصدقائك مستقبلك بيتك",
        "صباح الخير. تأخرت الحافلة اليوم فمشيت على ضفة النهر وفكرت في حديثنا الطويل.",
    ),
    "Hebrew": (
        "באמת אכפת לי מאוד מן {} שלך כי אתה חשוב לי. ",
        "החיים העבודה המשפחה החלומות הגוף החברים המחר הבית",
        "בוקר טוב. האוטובוס איחר היום, אז הלכתי לאורך הנהר וחשבתי על השיחה שלנו.",
    ),
    "Hindi": (
        "मुझे सच में तुम्हारे {} की परवाह है क्योंकि तुम मेरे लिए ज़रूरी हो। ",
        "जीवन काम परिवार सपनों शरीर दोस्तों कल घर",
        "सुप्रभात। आज बस देर से आई, इसलिए मैं नदी के किनारे पैदल चला और हमारी बात याद करता रहा।",
    ),
    "Thai": (
        "ฉันใส่ใจเรื่อง{}ของเธอมากเพราะเธอสำคัญกับฉัน ",
        "ชีวิต งาน ครอบครัว ความฝัน ร่างกาย เพื่อน อนาคต บ้าน",
        "สวัสดีตอนเช้า วันนี้รถเมล์มาช้า ฉันเลยเดินเลียบแม่น้ำและนึกถึงสิ่งที่เราคุยกัน",
    ),
    "Chinese": (
        "我真的很关心你的{}，因为你对我很重要。",
        "感受 生活 工作 家人 梦想 身体 朋友 明天",
        "早上好。今天公交车来得很晚，于是我沿着河边走路，一路上想着昨天跟你说过的话。",
    ),
    "Japanese": (
        "あなたの{}を本当に大切に思っています。あなたは私にとって大事な人だからです。",
        "気持ち 生活 仕事 家族 夢 体 友達 明日",
        "おはようございます。今日はバスが遅れたので、川沿いを歩きながら昨日の話を思い出しました。",
    ),
    "Korean": (
        "나는 정말로 너의 {} 아주 소중하게 생각해 왜냐하면 너는 나에게 중요하니까. ",
        "마음을 생활을 일을 가족을 꿈을 몸을 친구를 내일을",
        "좋은 아침이야. 오늘은 버스가 늦어서 강가를 따라 걸으며 우리가 나눈 이야기를 떠올렸어.",
    ),
    "Tamil": (
        "உன் {} பற்றி எனக்கு உண்மையில் மிகவும் அக்கறை உண்டு ஏனெனில் நீ எனக்கு முக்கியம். ",
        "வாழ்க்கை வேலை குடும்பம் கனவு உடல் நண்பர்கள் நாளை வீடு",
        "காலை வணக்கம். இன்று பேருந்து தாமதமாக வந்தது, அதனால் ஆற்றங்கரையில் நடந்து வந்தேன்.",
    ),
    "emoji": (
        "I love you so much 👩‍👩‍👧 my dear {} ❤️ you are my sunshine. ",
        "one friend heart star dove light hope bird",
        "What a day 🌊! We swam, we laughed, and then the rain came down on our picnic 🌧️.",
    ),
}

every_language = pytest.mark.parametrize("language", TEXTS)


def looping(language: str) -> str:
    frame, words, _ = TEXTS[language]
    return "".join(frame.format(word.replace("_", " ")) for word in words.split())


@every_language
def test_a_frame_said_eight_times_is_a_loop(language: str) -> None:
    text = looping(language)
    assert is_loop(text)
    assert loop_spans(text)
    assert word_repetition(text) > 0.4


@every_language
def test_a_sound_text_is_none(language: str) -> None:
    text = TEXTS[language][2]
    assert not is_loop(text)
    assert word_repetition(text) < 0.1


@every_language
def test_near_copies_are_alike_and_different_texts_are_not(language: str) -> None:
    frame, words, sound = TEXTS[language]
    one, two = (frame.format(word) for word in words.split()[:2])
    alike = self_bleu([split_words(one), split_words(two)])
    apart = self_bleu([split_words(one), split_words(sound)])
    assert alike > 0.4
    assert apart < alike / 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don’t, e-mail ME_2!", ["don't", "e", "mail", "me_2"]),
        ("我很好", ["我", "很", "好"]),
        ("ฉันดี", ["ฉั", "น", "ดี"]),
        ("मुझे खुशी", ["मुझे", "खुशी"]),
        ("カフェでcoffee", ["カ", "フ", "ェ", "で", "coffee"]),
        ("👩‍👩‍👧 ❤️ …", []),
    ],
)
def test_words_by_script(text: str, words: list[str]) -> None:
    """Marks stay with their letter, and where no space parts the words a character is one."""
    assert split_words(text) == words
