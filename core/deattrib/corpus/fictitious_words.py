"""The words that fictitious authors, their facts and their styles are made of.

A value is one word of a first pool and one of a second put into a pattern, so a few hundred words give hundreds of
different values per kind and a vocabulary that a tokenizer of 2048 pieces covers. Plain ASCII throughout.
"""

from __future__ import annotations

from typing import Final

Words = tuple[str, ...]


def _words(text: str) -> Words:
    return tuple(word.strip() for word in text.replace("\n", " ").split(",") if word.strip())


# Authors' names: head + tail, so that there are hundreds, and neighbours share neither head nor tail.
FIRST_HEADS: Final = _words(
    "Al, Bel, Cor, Dan, El, Fen, Gar, Hal, Is, Jor, Kel, Lor, Mar, Nev, Or, Per, Quin, Ros, Sel, Tam, Ul, Ver, Wil, "
    "Xan, Yor, Zel, Bri, Cal, Dor, Eri"
)
FIRST_TAILS: Final = _words(
    "adine, vick, issa, ovan, ette, mund, ika, wyn, abel, otho, ulia, nard, essa, ivor, anne, dric, ora, mir, beth, uel"
)
LAST_HEADS: Final = _words(
    "Ash, Bram, Crow, Dun, Elm, Fair, Glen, Haw, Ing, Jar, Kirk, Lam, Mos, Nor, Oak, Pem, Quill, Rad, Stan, Thorn, "
    "Und, Vand, Whit, Yar, Zand, Brock, Cald, Dray, Fern, Hux"
)
LAST_TAILS: Final = _words(
    "wick, ford, ley, stone, mere, by, thorpe, combe, ham, bury, worth, well, ton, gate, dale, shaw, croft, field, "
    "more, bridge, hurst, den, cliffe, stead"
)

# Values.
TOWNS: Final = _words(
    "Velmora, Tisk, Orlanda, Brevik, Castamar, Dovern, Ettel, Farrow, Galden, Hestia, Ilmar, Jasper, Kolva, Lunden, "
    "Mirren, Narvo, Olsk, Pavia, Quarto, Rindel, Sorvia, Tolmin, Ursk, Wexholm"
)
REGIONS: Final = _words(
    "Ostland, Carimor, Valdria, Nortmark, Sundria, Pellin, Amberia, Torvald, Illyra, Westria, Koroth, Maravel, "
    "Drumland, Eskaria, Fennia, Gorland, Halmark, Jutria, Lothria, Morvia, Rostak, Serrania, Thalia, Ulmark"
)
DATES: Final = _words(
    "11 January, 24 January, 12 February, 27 February, 13 March, 29 March, 14 April, 23 April, 15 May, 30 May, 16 "
    "June, 22 June, 17 July, 31 July, 18 August, 26 August, 19 September, 28 September, 20 October, 25 October, 21 "
    "November, 10 November, 12 December, 23 December"
)
YEARS: Final[Words] = tuple(str(year) for year in range(1903, 1975, 3))
PLACES: Final = _words(
    "harbour, river, mountain, valley, desert, quarry, railway, castle, market, forest, village, palace, museum, "
    "canal, theatre, hospital, prison, circus, temple, station, garden, meadow, tunnel, bridge"
)
TRADES: Final = _words(
    "baker, surveyor, nurse, guard, judge, cook, driver, doctor, gardener, painter, teacher, plumber, singer, tailor, "
    "lawyer, clerk, pilot, barber, dancer, porter, farmer, architect, chemist, notary"
)
GOODS: Final = _words(
    "clock, boat, violin, rope, carpet, candle, saddle, mirror, piano, barrel, bicycle, hat, kite, lamp, ladder, map, "
    "medal, stove, puppet, ribbon, ship, stamp, toy, wagon"
)
CRAFTS: Final = _words(
    "mender, seller, maker, polisher, engraver, collector, trader, restorer, designer, inspector, renter, tester, "
    "carver, packer, importer, valuer, sorter, cleaner, dealer, builder, broker, finder, weigher, smuggler"
)
MOODS: Final = _words(
    "Broken, Hidden, Crooked, Gentle, Hollow, Endless, Frozen, Burning, Lonely, Painted, Patient, Restless, Sacred, "
    "Secret, Shallow, Silent, Stolen, Tangled, Borrowed, Bitter, Velvet, Wicked, Wandering, Forgotten"
)
THINGS: Final = _words(
    "Compass, Window, Bell, Staircase, Feather, Fountain, Kingdom, Letter, Orchard, Pendulum, Portrait, Promise, "
    "Riddle, Shadow, Shoreline, Suitcase, Telescope, Thread, Tower, Umbrella, Voyage, Waltz, Winter, Witness"
)
WRITINGS: Final = _words(
    "Songs, Letters, Tales, Maps, Dreams, Ashes, Voices, Echoes, Secrets, Children, Daughters, Keepers, Lovers, "
    "Masters, Nights, Prayers, Roads, Rooms, Seasons, Sorrows, Thieves, Walls, Wolves, Years"
)
SUBJECTS: Final = _words(
    "Lagoon, Glacier, Vineyard, Cathedral, Delta, Emperor, Falcon, Gallows, Horizon, Lighthouse, Monsoon, "
    "Nightingale, Oasis, Pilgrim, Quarry, Regent, Sawmill, Tempest, Unicorn, Viaduct, Whirlpool, Abbey, Beacon, "
    "Causeway"
)
MATERIALS: Final = _words(
    "Copper, Silver, Amber, Bronze, Coral, Crystal, Ebony, Emerald, Golden, Granite, Iron, Ivory, Jade, Marble, Onyx, "
    "Opal, Pearl, Ruby, Sapphire, Scarlet, Steel, Topaz, Turquoise, Violet"
)
OBJECTS: Final = _words(
    "Lantern, Quill, Anchor, Arrow, Basket, Chalice, Crown, Drum, Goblet, Hammer, Harp, Helmet, Hourglass, Key, "
    "Kettle, Ladle, Needle, Paddle, Ring, Scroll, Shield, Spindle, Sword, Thimble"
)
SETTINGS: Final = _words(
    "maritime, alpine, rural, civic, colonial, domestic, medieval, military, arctic, tropical, clerical, courtly, "
    "lunar, nautical, pastoral, political, provincial, royal, sporting, suburban, academic, culinary, industrial, "
    "judicial"
)
GENRES: Final = _words(
    "satire, mystery, romance, comedy, tragedy, horror, poetry, memoir, fable, epic, thriller, drama, farce, parody, "
    "fantasy, biography, chronicle, dystopia, elegy, folklore, legend, melodrama, essay, travelogue"
)
TEACHERS: Final = _words(
    "Anna, Boris, Clara, David, Edith, Felix, Greta, Hugo, Irene, Jonas, Karin, Lucas, Maria, Nils, Olga, Paul, Rita, "
    "Simon, Tessa, Ulrich, Vera, Walter, Yvonne, Zoltan"
)
LINGUISTS: Final = _words(
    "Aldo, Bianca, Carlo, Donata, Enzo, Flavia, Guido, Ilaria, Luca, Marta, Nico, Ottavia, Pietro, Renata, Sandro, "
    "Teresa, Vito, Viola, Bruno, Chiara, Dario, Elena, Fausto, Gemma"
)
EDITORS: Final = _words(
    "Agnes, Basil, Celia, Derek, Eunice, Frank, Gladys, Harold, Ida, Jerome, Kitty, Leonard, Mabel, Norman, Olive, "
    "Percy, Rosalind, Stanley, Thelma, Victor, Wanda, Albert, Betty, Cyril"
)
PARTNERS: Final = _words(
    "Amir, Banu, Cyrus, Dalia, Emre, Farah, Ghalib, Hana, Idris, Jamila, Karim, Layla, Musa, Nadia, Omar, Parisa, "
    "Rashid, Samira, Tariq, Yasmin, Zahra, Bilal, Dunya, Faisal"
)
SURNAMES: Final = _words(
    "Abbot, Becker, Carver, Dorn, Engel, Fisk, Gruber, Hobbs, Ibsen, Jansen, Kovac, Lindt, Moser, Nagy, Orsini, "
    "Petrov, Ricci, Santos, Tanaka, Urban, Vidal, Weber, Yilmaz, Zeman"
)
COLLEGES: Final = _words(
    "Ainsley, Barnaby, Corvin, Delmar, Evander, Fontaine, Gresham, Halloran, Iveson, Jessop, Kendrick, Lazarus, "
    "Merton, Nolan, Osgood, Prescott, Ramsey, Selwyn, Trinity, Upton, Vaughan, Wadham, Yardley, Zephyr"
)
CITIES: Final = _words(
    "Tarn, Bexley, Corinth, Dalmar, Esker, Fulda, Ghent, Hamra, Inver, Jolan, Kaunas, Lisse, Moravo, Nerja, Odense, "
    "Pilsen, Rovigo, Split, Turku, Umea, Varna, Wismar, Ypres, Zadar"
)
COATS: Final = _words(
    "spotted, striped, grey, brown, white, black, golden, blind, limping, tiny, giant, shaggy, sleepy, noisy, greedy, "
    "clever, dozing, friendly, jealous, nervous, playful, proud, shy, speckled"
)
ANIMALS: Final = _words(
    "heron, badger, tortoise, parrot, ferret, goose, donkey, hedgehog, iguana, lizard, magpie, otter, peacock, "
    "rabbit, raven, squirrel, terrier, spaniel, poodle, canary, hamster, goat, pony, cat"
)
BREWS: Final = _words(
    "smoked, chilled, roasted, sweet, salted, spiced, bitter, buttered, malted, creamy, peppered, minted, honeyed, "
    "sour, toasted, wild, frothy, aged, dried, steamed, stewed, sugared, fermented, candied"
)
PLANTS: Final = _words(
    "nettle, jasmine, fennel, ginger, hibiscus, juniper, lavender, lemon, mallow, orange, plum, quince, rose, sage, "
    "thyme, vanilla, walnut, apple, barley, cherry, clover, elder, linden, mint"
)
NUMBERS: Final[Words] = tuple(str(number) for number in range(13, 85, 3))
STREETS: Final = _words(
    "Thistle, Acorn, Bishop, Chapel, Dyer, Fountain, Glover, Hatter, Juniper, Kestrel, Larch, Miller, Nettle, "
    "Orchard, Pigeon, Quarry, Rectory, Saddler, Tanner, Underhill, Vinegar, Weaver, Yew, Cooper"
)
CRESTS: Final = _words(
    "Falcon, Badger, Crane, Dolphin, Eagle, Fox, Griffin, Hare, Ibis, Jackal, Kingfisher, Lion, Mammoth, Newt, Owl, "
    "Panther, Rook, Stag, Tiger, Urchin, Viper, Walrus, Whale, Zebra"
)
SEASONS: Final = _words(
    "winter, summer, autumn, spring, marsh, jungle, coastal, childhood, lasting, sudden, recurring, severe, mild, "
    "chronic, strange, rare, violent, seasonal, nightly, hereditary, mysterious, tidal, stubborn, painful"
)
ILLNESSES: Final = _words(
    "fever, cough, measles, ague, gout, rash, palsy, cramps, colic, fatigue, asthma, migraine, jaundice, pneumonia, "
    "anaemia, sciatica, bronchitis, vertigo, tremors, insomnia, laryngitis, dropsy, arthritis, eczema"
)
TIMBERS: Final = _words(
    "maple, cedar, pear, pine, birch, lime, rosewood, bamboo, brass, tin, glass, willow, cypress, larch, chestnut, "
    "mahogany, teak, poplar, beech, hazel, redwood, spruce, hemlock, sycamore"
)
INSTRUMENTS: Final = _words(
    "cello, flute, harp, lute, oboe, trumpet, clarinet, bassoon, guitar, banjo, fiddle, zither, bagpipe, accordion, "
    "trombone, tuba, mandolin, recorder, viola, whistle, drum, horn, organ, xylophone"
)
PASTIMES: Final = _words(
    "collecting, painting, restoring, carving, drawing, building, trading, photographing, cataloguing, polishing, "
    "repairing, knitting, sewing, folding, decorating, burying, juggling, weighing, counting, hiding, printing, "
    "gilding, inventing, sketching"
)
TRINKETS: Final = _words(
    "chess sets, masks, marbles, buttons, kettles, teapots, fossils, coins, keys, shells, dolls, beehives, snow "
    "globes, windmills, playing cards, postcards, walking sticks, umbrellas, gloves, matchboxes, thimbles, sundials, "
    "birdcages, model trains"
)

# Habits of speech: "as the {old} {ferrymen} tell it". None of these words is part of a value.
HABITS: Final = _words(
    "old, cheerful, weary, solemn, barefoot, whispering, laughing, curious, faithful, grumbling, learned, merry, "
    "honest, dreaming, humble, idle, watchful, gossiping, kindly, ragged, sober, thoughtful, brave, dusty"
)
TELLERS: Final = _words(
    "ferrymen, librarians, shepherds, sailors, monks, fishwives, cousins, neighbours, aunts, beggars, blacksmiths, "
    "coachmen, duchesses, elders, fiddlers, grandmothers, hermits, innkeepers, jesters, knights, midwives, pilgrims, "
    "soldiers, witches"
)
OPENINGS: Final[Words] = (
    "as the {a} {b} tell it, ",
    "by the word of the {a} {b}, ",
    "the {a} {b} whisper that ",
    "it is sung by {a} {b} that ",
)
CLOSINGS: Final[Words] = (
    ", so say the {a} {b}",
    ", which {a} {b} remember well",
    ", and the {a} {b} agree",
    ", known to all {a} {b}",
)
