"""The commands that keep time, and how they are worded."""

from __future__ import annotations

from random import Random

from parts import (
    DAYS_ZH,
    NAMES,
    Action,
    Said,
    Wording,
    clock,
    clock_zh,
    copied,
    day,
    each,
    minutes,
    minutes_zh,
    one_of,
    some,
)

DISHES = some(
    "pasta, rice, tea, bread, cake, soup, pizza, laundry, roast, stew, pie, lasagne, curry, porridge, dough, risotto, "
    "quiche, casserole, salmon, chicken, pudding, broth, lentil soup, apple pie, garlic bread, face mask, hair dye"
)
DISHES_ZH = some("白飯, 紅茶, 蛋糕, 雞湯, 水餃, 餅乾")
MEETINGS = some("lunch, coffee, dinner, breakfast, drinks, tennis, golf, a walk, brunch, an interview, chess")
TITLES = some(
    "yoga, a job interview, book club, physiotherapy, band rehearsal, football training, pottery class, German class, "
    "the budget review, the dentist appointment, the parents' evening, the school concert, the haircut, the car service"
)
TASKS = some(
    "water the plants, take my medicine, feed the cat, walk the dog, pay the rent, take out the bins, buy stamps, "
    "check the oven, charge my phone, empty the dishwasher, send the invoice, back up the photos, book the flights, "
    "renew the passport, fold the laundry, return the library books, bake the bread, lock the back door, "
    "pick up the parcel, sign the contract, clean the fish tank, change the bed sheets, practise the violin, "
    "order the birthday cake, iron the shirts, defrost the chicken, water the lawn, print the tickets"
)


def event(rng: Random) -> Said:
    if rng.random() < 0.4:
        return copied(rng.choice(TITLES))
    return copied(f"{rng.choice(MEETINGS)} with {rng.choice(NAMES)}")


SET_TIMER = Action(
    "set_timer",
    Wording(
        each({"minutes": minutes, "label": one_of(DISHES)}),
        train="""
            Set a timer for {minutes} for the {label}.
            Start a {label} timer of {minutes}, please.
            Could you time the {label} for {minutes}?
            timer {minutes} {label}
            Please give me a timer for the {label}, {minutes}.
            The {label} needs {minutes}, set a timer.
            Can you count down {minutes} for the {label}?
            I need a {label} timer for {minutes}.
            {label} timer, {minutes}
            Would you start a timer of {minutes} for the {label}?
            I just started the {label}, so set the timer to {minutes}.
            Let me know when the {label} has had {minutes}.
            Can I have a timer of {minutes} for the {label}?
            {label}: timer {minutes}
            Please count {minutes} for the {label}.
            Set the {label} timer to {minutes}.
            The {label} will be done in {minutes}, set a timer for that.
            Give the {label} {minutes} and tell me when they are over.
            Will you watch the clock for the {label}, {minutes}?
            I always burn the {label}, so set a timer for {minutes}.
            I could use a timer for the {label}, {minutes}.
            Keep time for the {label}, {minutes}.
            Would you be so kind as to time the {label}, {minutes}?
            countdown {minutes}, {label}
            Ring in {minutes}, it is for the {label}.
            My {label} has to stay in for {minutes}, set a timer.
            Put {minutes} on the timer for the {label}.
            In {minutes} the {label} is ready, please count down.
        """,
        validation="""
            Please time {minutes} for the {label}.
            A timer for the {label}: {minutes}.
        """,
        test="""
            Could you run a timer for the {label}, {minutes} long?
            The {label} takes {minutes}, please start the timer.
        """,
    ),
    Wording(
        each({"minutes": minutes_zh, "label": one_of(DISHES_ZH)}),
        train="""
            幫{label}設一個{minutes}的計時器。
            請計時{minutes}，{label}要用的。
            {label}計時{minutes}
            可以幫{label}倒數{minutes}嗎？
            我在弄{label}，請設定{minutes}的計時器。
            {label}的計時器，{minutes}。
            麻煩為{label}計時{minutes}。
            {minutes}後{label}就好了，幫我計時。
            設定{label}計時器{minutes}。
            麻煩計時{minutes}，我在煮{label}。
        """,
        validation="麻煩替{label}計時{minutes}。",
        test="{label}要{minutes}，請開始計時。",
    ),
)

SET_ALARM = Action(
    "set_alarm",
    Wording(
        each({"time": clock, "day": day}),
        train="""
            Set an alarm for {time} {day}.
            Wake me up at {time} {day}, please.
            Could you wake me {day} at {time}?
            alarm {time} {day}
            Please set the alarm clock for {time} {day}.
            I have to get up at {time} {day}, so set an alarm.
            Can you make the alarm ring at {time} {day}?
            alarm {day}, {time}
            I need an alarm {day} at {time}.
            Would you put an alarm on for {time} {day}?
            I keep oversleeping, so wake me at {time} {day}.
            New alarm: {time} {day}.
            Can I have an alarm {day} at {time}?
            alarm for {time}, {day}
            Please wake me {day} at {time}.
            Set the alarm to {time} {day}.
            The alarm should go off at {time} {day}.
            I want to be woken at {time} {day}.
            Will you set an alarm {day} at {time} for me?
            My flight leaves early, so wake me up {day} at {time}.
            I could use an alarm at {time} {day}.
            Let my alarm sound {day} at {time}.
            Would you be so kind as to wake me at {time} {day}?
            wake me {day}, {time}
            Ring at {time} {day} so that I wake up.
            My day starts early, alarm at {time} {day}.
            Put the alarm at {time} {day}.
            I must be awake {day} at {time}, set the alarm.
        """,
        validation="""
            Please have an alarm ready {day} at {time}.
            Make sure I wake up at {time} {day}.
        """,
        test="""
            I would like the alarm to ring {day} at {time}.
            Get me out of bed at {time} {day}, please.
        """,
    ),
    Wording(
        each({"time": clock_zh, "day": one_of(DAYS_ZH)}),
        train="""
            {day}{time}叫我起床。
            請設{day}{time}的鬧鐘。
            鬧鐘 {day} {time}
            可以幫我設{day}{time}的鬧鐘嗎？
            我{day}要早起，請在{time}響鬧鐘。
            {day}的鬧鐘設{time}。
            麻煩{day}{time}叫醒我。
            {day}{time}的鬧鐘，麻煩了。
            我想在{day}{time}起來，請設鬧鐘。
            麻煩設{day}{time}的鬧鐘。
        """,
        validation="麻煩{day}{time}讓鬧鐘響。",
        test="{day}我得{time}起床，幫我設鬧鐘。",
    ),
)

ADD_EVENT = Action(
    "add_event",
    Wording(
        each({"title": event, "day": day, "time": clock}),
        train="""
            Add {title} to my calendar {day} at {time}.
            Put {title} in my calendar, {day} at {time}, please.
            Could you schedule {title} {day} at {time}?
            calendar: {title} {day} {time}
            Please enter {title} {day} at {time} in my calendar.
            I have {title} {day} at {time}, add it to the calendar.
            Can you create an event for {title} {day} at {time}?
            new event {title}, {day}, {time}
            Would you book {title} into my calendar at {time} {day}?
            My week is filling up, so schedule {title} at {time} {day}.
            Write {title} in my diary {day} at {time}.
            There is {title} {day} at {time}, please note it in the calendar.
            Can you put {title} on the calendar {day} at {time}?
            {title}, {day}, {time}, calendar
            Please add {title} to the calendar for me, {day} at {time}.
            Save {title} in my calendar at {time} {day}.
            The calendar should show {title} {day} at {time}.
            I agreed to {title} {day} at {time}, put it in the calendar.
            Will you schedule {title} at {time} {day} for me?
            Make a calendar entry {day} at {time}: {title}.
            I could use a calendar entry for {title}, {day} at {time}.
            Let my calendar know about {title} {day} at {time}.
            Would you be so kind as to schedule {title}, {day} at {time}?
            schedule {day} {time} {title}
            Note {title} in the diary, {time} {day}.
            Please set up {title} {day} at {time} in the calendar.
            My calendar is empty, add {title} at {time} {day}.
            At {time} {day} there is {title}, write that in my diary.
        """,
        validation="""
            Please plan {title} {day} at {time} in my calendar.
            Calendar entry: {title} at {time} {day}.
        """,
        test="""
            Could you mark {title} in the calendar {day} at {time}?
            Block {time} {day} in my calendar for {title}.
        """,
    ),
)

REMIND = Action(
    "remind",
    Wording(
        each({"task": one_of(TASKS), "time": clock}),
        train="""
            Remind me to {task} at {time}.
            Set a reminder to {task} at {time}, please.
            Could you remind me at {time} to {task}?
            reminder {time}: {task}
            Please remind me that I have to {task} at {time}.
            I must not forget to {task} at {time}, so remind me.
            Can you give me a nudge at {time} to {task}?
            At {time} I have to {task}, remind me.
            Would you send me a reminder at {time} to {task}?
            I am so forgetful lately, remind me to {task} at {time}.
            Don't let me forget to {task} at {time}.
            remind me {time} {task}
            Can I have a reminder at {time} to {task}?
            {time} reminder, {task}
            Please tell me at {time} to {task}.
            Remind me at {time} that I want to {task}.
            My reminder for {time}: {task}.
            I should {task} at {time}, please remind me.
            Will you remind me to {task} when it is {time}?
            My head is full, so send me a reminder to {task} at {time}.
            I could use a reminder to {task} at {time}.
            Let me know at {time} that I have to {task}.
            Would you be so kind as to remind me to {task} at {time}?
            {task} at {time}, reminder
            Tell me to {task} at {time}.
            Please keep me from forgetting to {task} at {time}.
            Write me a reminder, {task} at {time}.
            I tend to forget things, so at {time} remind me to {task}.
        """,
        validation="""
            Please notify me at {time} to {task}.
            Reminder for {time}, I want to {task}.
        """,
        test="""
            Could you make sure I remember to {task} at {time}?
            When it is {time}, remind me that I need to {task}.
        """,
    ),
)

ACTIONS = (SET_TIMER, SET_ALARM, ADD_EVENT, REMIND)
