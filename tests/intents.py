"""Short requests of six kinds, written for the tests: enough to tell kinds apart, and some that are near one another."""

from __future__ import annotations

INTENTS = {
    "cancel_order": [
        "please cancel what I bought yesterday", "I no longer want the shoes, stop the purchase",
        "can you call off my order", "I changed my mind about the lamp, do not send it",
        "stop my purchase before it ships", "undo the order I just placed", "scrap the order for the blue coat",
        "I ordered by mistake, get rid of it", "withdraw my purchase from this morning", "never mind the order",
    ],
    "track_parcel": [
        "where is my package right now", "has my parcel left the warehouse", "how far away is my delivery",
        "the tracking number shows nothing", "when will the box arrive", "is my shipment on its way",
        "show me where the courier is", "my package should have been here by now", "which city is my parcel in",
        "give me the status of the shipment",
    ],
    "refund_money": [
        "I want my money back", "when do I get the refund", "return the amount to my card",
        "the item was broken, pay me back", "you owe me thirty pounds", "has my refund been paid",
        "put the money back in my account", "reimburse me for the damaged vase", "I have not received my refund",
        "send back what I paid",
    ],
    "change_address": [
        "I moved, send it to my new house", "update my street in your records", "deliver to my office instead",
        "the post code on my account is wrong", "please use another delivery address",
        "my flat number has changed", "ship it to my mother's place", "correct the city on my profile",
        "I live somewhere else now", "change where my orders go",
    ],
    "reset_password": [
        "I forgot my password", "the login does not accept my code word", "let me set a new password",
        "I am locked out of my account", "send me the link to sign in again", "my password expired",
        "I cannot log in since yesterday", "how do I choose another password", "help me get back into my account",
        "the reset mail never came",
    ],
    "gift_card": [
        "how do I redeem a voucher", "my gift card has no balance", "can I buy a gift certificate for a friend",
        "the voucher code is not accepted", "how long is a gift card valid", "add the gift card to my basket",
        "I want to give someone a voucher", "what is left on my gift card", "can I pay half with a voucher",
        "where do I type the gift code",
    ],
}  # fmt: skip


def rows(start: int, stop: int) -> list[dict[str, str]]:
    """Texts start..stop of every kind."""
    return [{"text": text, "label": name} for name, texts in INTENTS.items() for text in texts[start:stop]]
