"""The commands that reach people, keep lists and play music, and how they are worded."""

from __future__ import annotations

from parts import NAMES, ROOMS, ROOMS_ZH, Action, Wording, each, one_of, some

TEXTS = some(
    "I am running late, dinner is ready, the train was cancelled, I left the keys at home, the meeting has moved, "
    "I am nearly there, the parcel has arrived, I will call back later, the car will not start, we are out of milk, "
    "the doctor said yes, I got the job, the tickets are booked, practice is over, the dog is fine, I am on the bus, "
    "the plumber is here, we won the match, the flight is delayed, I found the wallet, the baby is asleep, "
    "the shop is closed, my phone is nearly empty, the cake turned out well, we are at the station, it is snowing here"
)
LINES = some("mobile, home, work, office, emergency")
ITEMS = some(
    "milk, bread, eggs, butter, apples, coffee, rice, olive oil, toothpaste, batteries, sunscreen, candles, "
    "paper plates, a torch, socks, a raincoat, a phone charger, napkins, balloons, tomatoes, orange juice, soap, "
    "tea bags, dog food, a water bottle, matches, carrots, a notebook, plasters, lemonade, crisps, a blanket"
)
LISTS = some("shopping, packing, party, camping, picnic, gift, school, holiday")
ITEMS_ZH = some("牛奶, 雞蛋, 醬油, 牙膏, 電池, 雨衣")
LISTS_ZH = some("購物, 行李, 露營, 野餐")
MUSIC = some(
    "jazz, rock, reggae, blues, opera, disco, techno, country music, folk songs, hip hop, salsa, soul, film music, "
    "piano music, classical music, Christmas carols, children's songs, lullabies, Irish ballads, swing, heavy metal, "
    "bossa nova, guitar music, Mozart, Bach, Chopin, Abba, Queen, Nina Simone"
)
MUSIC_ZH = some("爵士樂, 古典樂, 鋼琴曲, 兒歌")

SEND_MESSAGE = Action(
    "send_message",
    Wording(
        each({"to": one_of(NAMES), "text": one_of(TEXTS)}),
        train="""
            Text {to} that {text}.
            Send {to} a message saying {text}, please.
            Could you tell {to} that {text}?
            message {to}: {text}
            Please let {to} know that {text}.
            Write to {to} that {text}.
            Can you text {to} and say {text}?
            Send a text to {to}: {text}.
            Would you message {to} that {text}?
            My hands are full, so tell {to} that {text}.
            I want {to} to know that {text}, send a message.
            text to {to} {text}
            Can you send {to} a text that {text}?
            message for {to}, {text}
            Please inform {to} that {text}.
            Message {to} and say that {text}.
            Send this to {to}: {text}.
            I need to tell {to} that {text}.
            Will you send {to} the message that {text}?
            I cannot type right now, so write {to} that {text}.
            I could use a text to {to} saying {text}.
            Let {to} know by message that {text}.
            Would you be so kind as to tell {to} that {text}?
            tell {to} {text}
            Type a message to {to}: {text}.
            Please send word to {to} that {text}.
            News for {to}, {text}, please send it.
            My phone is in the other room, so text {to} that {text}.
        """,
        validation="""
            Please say to {to} that {text}.
            A message for {to}: {text}.
        """,
        test="""
            Could you pass on to {to} that {text}?
            Let {to} have a message that says {text}.
        """,
    ),
)

CALL = Action(
    "call",
    Wording(
        each({"name": one_of(NAMES), "line": one_of(LINES)}),
        train="""
            Call {name} on the {line} number.
            Ring {name} at the {line} number, please.
            Could you phone {name} using the {line} number?
            call {name} {line}
            Please dial the {line} number of {name}.
            I want to talk to {name}, use the {line} number.
            Can you get {name} on the phone, {line} number?
            Would you call the {line} number of {name}?
            phone {name}, {line}
            I have good news to share, so call {name} on the {line} number.
            Start a call with {name} on the {line} line.
            Give {name} a ring on the {line} phone.
            Can you ring {name} on the {line} phone?
            {name}, {line} number, call
            Please call {name} on the {line} line.
            Dial {name}, {line} number.
            Phone the {line} number of {name}.
            It is urgent, so call {name} at the {line} number.
            Will you phone {name} at the {line} number for me?
            Get me {name} on the {line} line.
            I could use a call with {name} on the {line} number.
            Let me speak to {name} on the {line} phone.
            Would you be so kind as to ring {name} on the {line} line?
            dial {name} {line}
            Reach {name} on the {line} number.
            Please telephone {name}, {line} number.
            {name} has to hear this, so dial the {line} number.
            I have to speak with {name}, {line} number please.
        """,
        validation="""
            Please make a call to {name}, {line} number.
            Phone call to {name}, {line} line.
        """,
        test="""
            Could you try {name} on the {line} phone?
            Connect me with {name} at the {line} number.
        """,
    ),
)

ADD_TO_LIST = Action(
    "add_to_list",
    Wording(
        each({"item": one_of(ITEMS), "list": one_of(LISTS)}),
        train="""
            Add {item} to the {list} list.
            Put {item} on my {list} list, please.
            Could you add {item} to my {list} list?
            {item} on the {list} list
            Please write {item} on the {list} list.
            I keep forgetting {item}, so put it on the {list} list.
            Can you note {item} on the {list} list?
            {list} list: {item}
            Would you include {item} in the {list} list?
            The {list} list still needs {item}.
            I also want {item} on my {list} list.
            Make sure {item} is on the {list} list.
            Can I have {item} on the {list} list?
            {item}, {list} list
            Please remember {item} for the {list} list.
            Note down {item} for the {list} list.
            I would like {item} on my {list} list.
            Put down {item} in the {list} list.
            Will you add {item} to the {list} list for me?
            It just came to me, add {item} to the {list} list.
            I could use {item}, put it on the {list} list.
            Let {item} be on the {list} list.
            Would you be so kind as to add {item} to the {list} list?
            add {item} {list} list
            Save {item} to the {list} list.
            Please keep {item} on the {list} list.
            I nearly forgot {item}, {list} list please.
            Another thing for my {list} list, {item}.
        """,
        validation="""
            Please extend the {list} list by {item}.
            Also for the {list} list: {item}.
        """,
        test="""
            Could {item} go on the {list} list?
            My {list} list is missing {item}, please add it.
        """,
    ),
    Wording(
        each({"item": one_of(ITEMS_ZH), "list": one_of(LISTS_ZH)}),
        train="""
            把{item}加到{list}清單。
            請在{list}清單寫上{item}。
            {list}清單：{item}
            可以把{item}放進{list}清單嗎？
            差點忘了，{list}清單要加{item}。
            {item}加進{list}清單。
            麻煩把{item}寫進{list}清單。
            {list}清單要有{item}。
            別忘了{item}，加到{list}清單。
            麻煩幫我在{list}清單加{item}。
        """,
        validation="麻煩將{item}加入{list}清單。",
        test="{list}清單上還缺{item}，幫我補上。",
    ),
)

PLAY_MUSIC = Action(
    "play_music",
    Wording(
        each({"music": one_of(MUSIC), "room": one_of(ROOMS)}),
        train="""
            Play some {music} in the {room}.
            Put on {music} in the {room}, please.
            Could you play {music} on the {room} speakers?
            {music} in the {room}
            Please start some {music} in the {room}.
            I feel like hearing {music} in the {room}.
            Can you stream {music} to the {room}?
            play {music} {room}
            Would you put some {music} on in the {room}?
            We are having friends round, so play {music} in the {room}.
            Let the {room} speakers play {music}.
            Some {music} in the {room} would be nice.
            Can I have some {music} in the {room}?
            {room}: {music}
            Please turn on {music} in the {room}.
            How about a little {music} in the {room}?
            Get {music} going in the {room}.
            Will you play me {music} in the {room}?
            I want {music} while I am in the {room}.
            It is so quiet here, put {music} on in the {room}.
            I could use some {music} in the {room}.
            Let me hear {music} in the {room}.
            Turn the {room} speakers to {music}.
            Would you be so kind as to play {music} in the {room}?
            {room} speakers, {music}
            Give me {music} in the {room}.
            My party needs {music} in the {room}.
            Time to dance, {music} in the {room} please.
        """,
        validation="""
            Fill the {room} with {music}, please.
            Music for the {room}: {music}.
        """,
        test="""
            I would love to listen to {music} in the {room}.
            Could we have some {music} playing in the {room}?
        """,
    ),
    Wording(
        each({"music": one_of(MUSIC_ZH), "room": one_of(ROOMS_ZH)}),
        train="""
            在{room}播放{music}。
            請在{room}放{music}。
            {room} {music}
            可以在{room}播一點{music}嗎？
            今天好累，{room}放個{music}吧。
            放{music}到{room}。
            麻煩在{room}播{music}。
            {room}播{music}就好。
            客人來了，請在{room}播放{music}。
            麻煩放一點{music}，在{room}。
        """,
        validation="麻煩在{room}放點{music}。",
        test="我想在{room}聽{music}。",
    ),
)

ACTIONS = (SEND_MESSAGE, CALL, ADD_TO_LIST, PLAY_MUSIC)
