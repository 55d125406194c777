"""Sample texts for measuring an encoder: passages of many kinds, of the length passages have.

Written for this purpose. They are part of what a verdict was measured with: changing them asks for
another ``FORMAT`` of :mod:`precision`.
"""

_PARAGRAPHS = (
    "The harbour of the old town was dredged in 1874, when steamers had grown too deep for the "
    "channel that Dutch engineers had cut two centuries before. Grain left by barge for the mills "
    "upstream, and coal came back the same way. After the railway reached the quay, the barges "
    "were broken up one by one, and the last skipper sold his mooring to a rowing club.",
    "We compared two groups of 148 adults with type 2 diabetes over 26 weeks. Fasting glucose fell "
    "by 1.2 mmol/L in the treated group (95% CI 0.7 to 1.6) and by 0.3 mmol/L under placebo. "
    "Nausea was the most frequent adverse event. No severe hypoglycaemia was seen, but the trial "
    "was too short to tell anything about cardiovascular outcomes.",
    "To reset the controller, hold the power button for ten seconds until the amber light blinks "
    "twice, then connect the service cable and run `update --force`. If the command reports error "
    "E41, the bootloader is locked: contact your dealer with the serial number printed under the "
    "battery. Settings stored by users are lost in either case, so export them first.",
    "def merge(left, right): walk both lists with two indices, append the smaller head to the "
    "result, and extend it with what remains of the other one. The running time is linear in the "
    "total length. Sorting by repeated merging is stable, which matters where records that compare "
    "equal must keep the order in which a user entered them.",
    "Shares of the carmaker lost nine per cent on Tuesday after it lowered its forecast for the "
    "third time this year. Analysts had expected a charge for the recall of electric vans, though "
    "not one of 2.4 billion euros. The chief executive blamed a supplier in Slovakia, the union "
    "blamed the chief executive, and the finance ministry declined to comment.",
    "The tenant may terminate this agreement by written notice of three months to the end of a "
    "calendar quarter. Deposits are to be returned within thirty days, less the cost of repairs "
    "that exceed ordinary wear. Clause 14 does not apply where the building is sold, in which case "
    "the purchaser takes the place of the landlord in all rights and duties.",
    "Barn swallows return to the same rafters every April, having crossed the Sahara in a few "
    "nights. A pair makes about a thousand flights with mud before the nest will hold four eggs. "
    "Cold rain in May starves the first brood; farmers who leave a dung heap uncovered save more "
    "chicks than any feeding station, since flies are all that the parents bring.",
    "Who wrote to Madame Rostova in the spring of 1911 is unknown, but the hand is not her "
    "brother's. The letter speaks of a debt, of a violin left with a pawnbroker on Liteiny "
    "Prospekt, and of a child named Anna who must never learn of it. Kraków, where it was posted, "
    "was at that time a garrison town of Austria-Hungary.",
)


def calibration_texts() -> list[str]:
    """Return 16 texts of 40 to 130 words, about 60 to 190 word pieces."""
    count = len(_PARAGRAPHS)
    pairs = [(n % count, (n + 1 + 2 * (n // count)) % count) for n in range(2 * count)]
    texts = [f"{_PARAGRAPHS[a]} {_PARAGRAPHS[b]}" for a, b in pairs]
    return [" ".join(text.split()[: 40 + 6 * n]) for n, text in enumerate(texts)]
