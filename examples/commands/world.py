"""The commands for the world outside, and how they are worded."""

from __future__ import annotations

from random import Random

from parts import DAYS_ZH, Action, Said, Slots, Wording, amount, copied, day, each, one_of, some

CITIES = some(
    "Taipei, Kaohsiung, Tainan, Tokyo, Osaka, Seoul, Singapore, Bangkok, Hanoi, Delhi, Mumbai, Cairo, Nairobi, Lagos, "
    "Cape Town, London, Leeds, Dublin, Paris, Lyon, Berlin, Munich, Vienna, Zurich, Madrid, Lisbon, Rome, Athens, "
    "Oslo, Helsinki, Warsaw, Prague, Toronto, Montreal, New York, Boston, Chicago, Denver, Seattle, Lima, Sydney"
)
CITIES_ZH = some("台北, 台南, 高雄, 花蓮, 東京, 巴黎")
PLACES = some(
    "Central Station, City Hall, Victoria Park, Green Lake, Riverside Mall, Harbour Street, Saint Mary Hospital, "
    "Oak Hill School, Lion Bridge, Castle Square, Museum Island, Sunset Beach, North Market, King's Cross, Mill Road, "
    "Hillside Library, Elm Avenue, Garden Theatre, Old Town Gate, Maple Court"
)
LANGUAGES = some(
    "French, German, Spanish, Italian, Portuguese, Dutch, Polish, Czech, Greek, Turkish, Arabic, Hindi, Japanese, "
    "Korean, Thai, Vietnamese, Swedish, Danish, Finnish, Hungarian"
)
PHRASES = some(
    "good morning; thank you; see you tomorrow; where is the station; how much is this; happy birthday; I am lost; "
    "the bill please; good night; I do not understand; what time is it; nice to meet you; have a safe journey; "
    "I am allergic to nuts; one ticket please; the room is cold; can you help me; I like your garden; no sugar please; "
    "is this seat free; congratulations; the food was great; I missed the bus; please speak slowly; welcome home",
    separator=";",
)
UNITS = tuple(
    some(kind)
    for kind in (
        "miles, kilometres, metres, feet",
        "kilograms, pounds, ounces, grams",
        "litres, gallons, pints, cups",
    )
)


def conversion(rng: Random) -> Slots:
    """Two units of the same kind."""
    one, other = rng.sample(rng.choice(UNITS), 2)
    number = amount([*range(2, 100), *range(100, 1000, 50)], ["{}"])(rng)
    return {"amount": number, "from": copied(one), "to": copied(other)}


def journey(rng: Random) -> Slots:
    mode = rng.choice(["car", "bus", "train", "bike", "foot"])
    way = Said(mode, "on foot" if mode == "foot" else f"by {mode}")
    return {"place": copied(rng.choice(PLACES + CITIES)), "mode": way}


GET_WEATHER = Action(
    "get_weather",
    Wording(
        each({"city": one_of(CITIES), "day": day}),
        train="""
            What will the weather be like in {city} {day}?
            Tell me the weather for {city} {day}, please.
            Could you check the weather in {city} {day}?
            weather {city} {day}
            Please give me the forecast for {city} {day}.
            Will it rain in {city} {day}?
            Can you look up the forecast in {city} {day}?
            forecast {day} {city}
            Do I need an umbrella in {city} {day}?
            I am packing my bag, so how is the weather in {city} {day}?
            How warm will it be in {city} {day}?
            Show me the {city} weather {day}.
            Can I have the weather for {city} {day}?
            {city}: weather {day}
            Please tell me if it will snow in {city} {day}.
            How is the weather in {city} {day}?
            Weather report for {city} {day}, please.
            I wonder whether it will be windy in {city} {day}.
            Will you check the {city} forecast for me, {day}?
            We are going for a hike, what is the forecast for {city} {day}?
            I could use the forecast for {city} {day}.
            Let me know the weather in {city} {day}.
            Would you be so kind as to look up the weather in {city} {day}?
            {day} weather {city}
            Is rain likely in {city} {day}?
            Please say how cold it gets in {city} {day}.
            Should I take a coat to {city} {day}?
            My trip to {city} is {day}, how will the weather be?
        """,
        validation="""
            Please find out what the weather does in {city} {day}.
            The forecast {day}, for {city}.
        """,
        test="""
            Is it going to be sunny in {city} {day}?
            Could you tell me what weather to expect {day} in {city}?
        """,
    ),
    Wording(
        each({"city": one_of(CITIES_ZH), "day": one_of(DAYS_ZH)}),
        train="""
            {city}{day}天氣如何？
            請告訴我{city}{day}的天氣。
            {city} {day} 天氣
            {city}{day}會下雨嗎？
            我要出差，{city}{day}的天氣怎麼樣？
            查{city}{day}的天氣。
            麻煩看一下{city}{day}的天氣。
            去{city}{day}要帶傘嗎？
            {city}{day}熱不熱？
            麻煩說說{city}{day}的天氣。
        """,
        validation="麻煩查一下{city}{day}的天氣。",
        test="想知道{city}{day}的天氣預報。",
    ),
)

NAVIGATE = Action(
    "navigate",
    Wording(
        journey,
        train="""
            Take me to {place} {mode}.
            Navigate to {place} {mode}, please.
            Could you show me the way to {place} {mode}?
            {place} {mode}
            Please give me directions to {place} {mode}.
            How do I get to {place} {mode}?
            Can you find a route to {place} {mode}?
            route to {place} {mode}
            I want to go to {place} {mode}.
            Would you guide me to {place} {mode}?
            I am already running late, so find the quickest way to {place} {mode}.
            Start navigation {mode} to {place}.
            Can I have the route to {place} {mode}?
            {place}: route {mode}
            Please bring me to {place} {mode}.
            Get me to {place} {mode}.
            I have to be at {place}, which way do I go {mode}?
            Set a course for {place} {mode}.
            Will you navigate me to {place} {mode}?
            My friends are waiting, so show me the route to {place} {mode}.
            I could use directions to {place} {mode}.
            Let me know how to get to {place} {mode}.
            Would you be so kind as to show me the route to {place} {mode}?
            {mode} to {place}
            Guide me {mode} to {place}.
            Please start the route to {place} {mode}.
            Where do I turn for {place}, I am going {mode}?
            I am off to {place} {mode}, show me the way.
        """,
        validation="""
            Please plan a trip {mode} to {place}.
            Directions {mode}: {place}.
        """,
        test="""
            Could you lead me to {place} {mode}?
            What is the best way {mode} to {place}?
        """,
    ),
)

CONVERT_UNIT = Action(
    "convert_unit",
    Wording(
        conversion,
        train="""
            Convert {amount} {from} to {to}.
            How many {to} are {amount} {from}?
            Could you convert {amount} {from} into {to}?
            {amount} {from} in {to}
            Please turn {amount} {from} into {to}.
            What is {amount} {from} in {to}?
            Can you work out {amount} {from} in {to}?
            {amount} {from} to {to}
            Would you tell me how many {to} there are in {amount} {from}?
            I am following a foreign manual, so what is {amount} {from} in {to}?
            I have {amount} {from}, how much is that in {to}?
            Give me {amount} {from} as {to}.
            Can I have {amount} {from} in {to}?
            {amount} {from}, in {to}
            Please convert {amount} {from} into {to}.
            How much is {amount} {from} in {to}?
            Write {amount} {from} in {to}.
            How many {to} do {amount} {from} make?
            Will you convert {amount} {from} to {to} for me?
            The label is confusing, so tell me {amount} {from} in {to}.
            I could use {amount} {from} in {to}.
            Let me know what {amount} {from} are in {to}.
            Would you be so kind as to convert {amount} {from} to {to}?
            convert {amount} {from} {to}
            Tell me the number of {to} in {amount} {from}.
            Please show {amount} {from} in {to}.
            What do {amount} {from} come to in {to}?
            I only know {to}, so convert {amount} {from}.
        """,
        validation="""
            Please calculate how many {to} make {amount} {from}.
            Express {amount} {from} in {to}.
        """,
        test="""
            Could you change {amount} {from} over to {to}?
            I would like to know how many {to} {amount} {from} would be.
        """,
    ),
)

TRANSLATE = Action(
    "translate",
    Wording(
        each({"text": one_of(PHRASES), "language": one_of(LANGUAGES)}),
        train="""
            Translate "{text}" into {language}.
            How do you say "{text}" in {language}?
            Could you translate "{text}" to {language}, please?
            "{text}" in {language}
            Please put "{text}" into {language}.
            What is "{text}" in {language}?
            Can you give me the {language} for "{text}"?
            {language} translation of "{text}"
            Would you tell me how to say "{text}" in {language}?
            I am writing a postcard, so what is "{text}" in {language}?
            I need "{text}" in {language}.
            Say "{text}" in {language}.
            Can I have "{text}" in {language}?
            "{text}", {language}
            Please translate "{text}" into {language}.
            Tell me how people say "{text}" in {language}.
            Turn "{text}" into {language}.
            I want to say "{text}" in {language}.
            Will you translate "{text}" to {language} for me?
            My guests speak {language}, so how do I say "{text}"?
            I could use "{text}" in {language}.
            Let me know how to say "{text}" in {language}.
            Would you be so kind as to translate "{text}" into {language}?
            translate {language} "{text}"
            Give me "{text}" in {language}.
            Please tell me "{text}" in {language}.
            What do people say for "{text}" in {language}?
            My friend only speaks {language}, so translate "{text}".
        """,
        validation="""
            Please render "{text}" in {language}.
            The {language} version of "{text}", please.
        """,
        test="""
            Could you help me say "{text}" in {language}?
            What would "{text}" be in {language}?
        """,
    ),
)

ACTIONS = (GET_WEATHER, NAVIGATE, CONVERT_UNIT, TRANSLATE)
