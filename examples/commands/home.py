"""The commands for the home, and how they are worded."""

from __future__ import annotations

from parts import ROOMS, ROOMS_ZH, Action, Wording, amount, digits, each, one_of, some

DEVICES = some(
    "toaster, fan, heater, television, radio, air conditioner, coffee machine, dehumidifier, freezer, air purifier, "
    "printer, kettle, oven, dishwasher, washing machine, robot vacuum, projector, speaker, humidifier, electric blanket"
)
DEVICES_ZH = some("電燈, 電扇, 冷氣, 電視, 暖氣")
PERCENTS = range(5, 100, 5)
DEGREES = range(14, 29)

TURN_ON = Action(
    "turn_on",
    Wording(
        each({"device": one_of(DEVICES), "room": one_of(ROOMS)}),
        train="""
            Turn on the {device} in the {room}.
            Switch on the {room} {device}, please.
            Could you turn the {device} on in the {room}?
            Please switch the {device} in the {room} on.
            {device} on in the {room}
            I need the {device} running in the {room}.
            Would you mind switching on the {device} in the {room}?
            It is time to use the {device} in the {room}, turn it on.
            Can you get the {room} {device} started?
            turn {room} {device} on
            Power up the {device} in the {room}.
            I just came home and would like the {device} in the {room} on.
            Get the {device} in the {room} going.
            Can I have the {device} in the {room} on?
            {room}: {device} on
            Please activate the {room} {device}.
            Make sure the {device} in the {room} is switched on.
            The {room} {device} should be on, please.
            It is dark and cold, switch the {room} {device} on.
            Will you turn on the {room} {device} for me?
            I could use the {device} in the {room}, put it on.
            Put the {device} on in the {room}.
            Time for the {room} {device}, switch it on.
            Would you be so kind as to start the {room} {device}?
            Set the {device} in the {room} running.
            {device}, {room}, on
            The {device} in the {room} is off, please turn it on.
            Have the {device} in the {room} run.
        """,
        validation="""
            Start the {device} in the {room} for me.
            Please make sure the {room} {device} is on.
        """,
        test="""
            Let's have the {room} {device} on, please.
            Could you switch on the {device} that is in the {room}?
        """,
    ),
    Wording(
        each({"device": one_of(DEVICES_ZH), "room": one_of(ROOMS_ZH)}),
        train="""
            打開{room}的{device}。
            請把{room}的{device}打開。
            {room}{device}開
            可以幫我開{room}的{device}嗎？
            我剛到家，幫我打開{room}的{device}。
            開{room}的{device}。
            麻煩打開{room}的{device}。
            {room}的{device}幫我開一下。
            我要用{room}的{device}，請打開。
            麻煩讓{room}的{device}開著。
        """,
        validation="麻煩開一下{room}的{device}。",
        test="能不能把{room}的{device}開起來？",
    ),
)

TURN_OFF = Action(
    "turn_off",
    Wording(
        each({"device": one_of(DEVICES), "room": one_of(ROOMS)}),
        train="""
            Turn off the {device} in the {room}.
            Switch off the {room} {device}, please.
            Could you turn the {device} off in the {room}?
            Please switch the {device} in the {room} off.
            {device} off in the {room}
            I no longer need the {device} in the {room}.
            Would you mind switching off the {device} in the {room}?
            I am done with the {device} in the {room}, turn it off.
            Can you shut down the {room} {device}?
            turn {room} {device} off
            Power down the {device} in the {room}.
            I am about to leave the house and want the {device} in the {room} off.
            Bring the {device} in the {room} to a stop.
            Can I have the {device} in the {room} off?
            {room}: {device} off
            Please deactivate the {room} {device}.
            Make sure the {device} in the {room} is switched off.
            The {room} {device} should be off, please.
            Nobody is in there, switch the {room} {device} off.
            Will you turn off the {room} {device} for me?
            I have had enough of the {device} in the {room}, switch it off.
            Kill the {device} in the {room}.
            Time to rest for the {room} {device}, switch it off.
            Would you be so kind as to stop the {room} {device}?
            Cut the power of the {device} in the {room}.
            {device}, {room}, off
            The {device} in the {room} is still on, please turn it off.
            No more {device} in the {room}, please.
        """,
        validation="""
            Stop the {device} in the {room} for me.
            Please make sure the {room} {device} is off.
        """,
        test="""
            The {room} {device} can go off now, please.
            Could you switch off the {device} that is in the {room}?
        """,
    ),
    Wording(
        each({"device": one_of(DEVICES_ZH), "room": one_of(ROOMS_ZH)}),
        train="""
            關掉{room}的{device}。
            請把{room}的{device}關掉。
            {room}{device}關
            可以幫我關{room}的{device}嗎？
            我要出門了，幫我關掉{room}的{device}。
            關{room}的{device}。
            麻煩關掉{room}的{device}。
            {room}的{device}幫我關一下。
            我不用{room}的{device}了，請關掉。
            麻煩停掉{room}的{device}。
        """,
        validation="麻煩關一下{room}的{device}。",
        test="能不能把{room}的{device}關起來？",
    ),
)

SET_BRIGHTNESS = Action(
    "set_brightness",
    Wording(
        each({"room": one_of(ROOMS), "percent": amount(PERCENTS, ["{} percent", "{}%"])}),
        train="""
            Set the {room} lights to {percent}.
            Dim the lights in the {room} to {percent}, please.
            Could you set the brightness in the {room} to {percent}?
            {room} lights {percent}
            Please bring the {room} lights to {percent}.
            Make the {room} lights {percent} bright.
            I would like the lights in the {room} at {percent}.
            Can you change the {room} brightness to {percent}?
            brightness {percent} in the {room}
            It is a bit dark to read, so set the {room} lights to {percent}.
            Would you put the lights in the {room} at {percent}?
            Adjust the light level in the {room} to {percent}.
            Can I have the {room} lights at {percent}?
            {room}: brightness {percent}
            Please turn the light in the {room} up to {percent}.
            Turn the {room} lights down to {percent}.
            The lights in the {room} are too bright, dim them to {percent}.
            Give the {room} {percent} light.
            Will you set the light in the {room} to {percent} for me?
            We are watching a film, so dim the {room} to {percent}.
            I could use {percent} light in the {room}.
            Lower the {room} lights to {percent}.
            Raise the {room} lights to {percent}.
            Would you be so kind as to dim the {room} to {percent}?
            light in the {room}, {percent}
            Have the lamps in the {room} at {percent}.
            The {room} is too dark, go to {percent} brightness.
            Change the lights in the {room}, {percent} is enough.
        """,
        validation="""
            Please have the {room} lights shine at {percent}.
            Brightness of the {room}: {percent}.
        """,
        test="""
            Could you get the {room} lights to {percent} brightness?
            The light in the {room} should be at {percent}.
        """,
    ),
)

SET_TEMPERATURE = Action(
    "set_temperature",
    Wording(
        each({"room": one_of(ROOMS), "degrees": amount(DEGREES, ["{} degrees", "{}°C"])}),
        train="""
            Set the {room} to {degrees}.
            Heat the {room} to {degrees}, please.
            Could you set the temperature in the {room} to {degrees}?
            {room} {degrees}
            Please bring the {room} to {degrees}.
            Make it {degrees} in the {room}.
            I would like {degrees} in the {room}.
            Can you change the {room} temperature to {degrees}?
            thermostat {degrees} in the {room}
            It feels chilly today, so make the {room} {degrees}.
            Would you keep the {room} at {degrees}?
            Adjust the thermostat in the {room} to {degrees}.
            Can I have {degrees} in the {room}?
            {room}: temperature {degrees}
            Please turn the heating in the {room} up to {degrees}.
            Cool the {room} down to {degrees}.
            The {room} is too warm, change it to {degrees}.
            Set the heating to {degrees} in the {room}.
            Will you warm the {room} up to {degrees} for me?
            Grandma is visiting, so heat the {room} to {degrees}.
            I could use {degrees} in the {room}.
            Lower the heating in the {room} to {degrees}.
            Raise the temperature in the {room} to {degrees}.
            Would you be so kind as to heat the {room} to {degrees}?
            heating, {room}, {degrees}
            Have the {room} thermostat at {degrees}.
            The {room} is too cold, go to {degrees}.
            Change the heating in the {room}, {degrees} is enough.
        """,
        validation="""
            Please have the {room} warmed to {degrees}.
            Temperature of the {room}: {degrees}.
        """,
        test="""
            Could you get the {room} to a temperature of {degrees}?
            The {room} should be at {degrees}, please.
        """,
    ),
    Wording(
        each({"room": one_of(ROOMS_ZH), "degrees": digits(DEGREES, "{}度")}),
        train="""
            把{room}調到{degrees}。
            請將{room}的溫度設為{degrees}。
            {room}{degrees}
            可以讓{room}維持{degrees}嗎？
            今天有點冷，{room}請開到{degrees}。
            {room}設{degrees}。
            麻煩將{room}調整到{degrees}。
            {room}溫度{degrees}，麻煩了。
            我想讓{room}保持{degrees}。
            麻煩讓{room}變成{degrees}。
        """,
        validation="麻煩把{room}的溫度調成{degrees}。",
        test="{room}的溫度請改成{degrees}。",
    ),
)

ACTIONS = (TURN_ON, TURN_OFF, SET_BRIGHTNESS, SET_TEMPERATURE)
