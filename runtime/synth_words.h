/* The word lists of mmrun synth, and what each entry adds to the logarithm of a post's counts, in hundredths.
   Included by synth_post.c alone. All of it is made up here.

   Words 2k and 2k + 1 of a language, k < npair, are a pair: alone they mean nothing, side by side in this order they
   add pair[k]. A word, a pair, a hashtag counts once a post. Japanese is written without spaces, so that a
   reader by words cannot see its words: none of them has an effect. */

typedef struct Word {
	const char *s;
	int effect;
} Word;

typedef struct Language {
	const Word *word;
	uint32_t nword, npair;
	int pair[4];
	const char *space, *original; /* original: what the app calls a song of the user's own */
} Language;

static const Word english[] = {
	{"wait", 0}, {"end", 0}, {"part", 0}, {"two", 0}, {"link", 0}, {"bio", 0}, {"not", 0}, {"ready", 0},
	{"giveaway", 85}, {"secret", 75}, {"puppy", 90}, {"prank", 65}, {"recipe", 60}, {"proposal", 95}, {"hack", 70},
	{"goals", 55}, {"ad", -85}, {"sponsored", -95}, {"repost", -75}, {"vlog", -60}, {"unboxing", -60}, {"test", -70},
	{"draft", -80}, {"bored", -55},
	{"the", 0}, {"a", 0}, {"my", 0}, {"your", 0}, {"this", 0}, {"that", 0}, {"we", 0}, {"you", 0}, {"they", 0},
	{"is", 0}, {"was", 0}, {"can", 0}, {"can't", 0}, {"don't", 0}, {"never", 0}, {"always", 0}, {"when", 0}, {"how", 0},
	{"why", 0}, {"with", 0}, {"without", 0}, {"for", 0}, {"from", 0}, {"into", 0}, {"about", 0}, {"after", 0},
	{"before", 0}, {"today", 0}, {"tonight", 0}, {"tomorrow", 0}, {"morning", 0}, {"summer", 0}, {"winter", 0},
	{"home", 0}, {"school", 0}, {"work", 0}, {"kitchen", 0}, {"garden", 0}, {"street", 0}, {"beach", 0}, {"train", 0},
	{"friend", 0}, {"sister", 0}, {"brother", 0}, {"mum", 0}, {"dad", 0}, {"baby", 0}, {"cat", 0}, {"dog", 0},
	{"coffee", 0}, {"cake", 0}, {"pasta", 0}, {"soup", 0}, {"dress", 0}, {"shoes", 0}, {"hair", 0}, {"makeup", 0},
	{"song", 0}, {"dance", 0}, {"moves", 0}, {"video", 0}, {"camera", 0}, {"story", 0}, {"idea", 0}, {"question", 0},
	{"answer", 0}, {"try", 0}, {"make", 0}, {"watch", 0}, {"look", 0}, {"think", 0}, {"love", 0}, {"need", 0},
	{"want", 0}, {"found", 0}, {"lost", 0}, {"first", 0}, {"last", 0}, {"best", 0}, {"worst", 0}, {"new", 0},
	{"old", 0}, {"tiny", 0}, {"huge", 0}, {"funny", 0}, {"weird", 0}, {"honest", 0}, {"literally", 0}, {"maybe", 0},
};
static const Word spanish[] = {
	{"espera", 0}, {"final", 0}, {"parte", 0}, {"dos", 0},
	{"sorteo", 85}, {"secreto", 75}, {"cachorro", 80}, {"receta", 60}, {"truco", 60}, {"publicidad", -90},
	{"prueba", -70}, {"aburrido", -60},
	{"hoy", 0}, {"mañana", 0}, {"noche", 0}, {"la", 0}, {"el", 0}, {"mi", 0}, {"tu", 0}, {"con", 0}, {"sin", 0},
	{"para", 0}, {"siempre", 0}, {"nunca", 0}, {"quiero", 0}, {"tengo", 0}, {"hacer", 0}, {"bailar", 0}, {"comer", 0},
	{"casa", 0}, {"calle", 0}, {"playa", 0}, {"amiga", 0}, {"hermano", 0}, {"mamá", 0}, {"niño", 0}, {"canción", 0},
	{"vídeo", 0}, {"historia", 0}, {"corazón", 0}, {"mejor", 0}, {"peor", 0}, {"qué", 0}, {"cómo", 0}, {"así", 0},
};
static const Word portuguese[] = {
	{"espere", 0}, {"fim", 0}, {"segunda", 0}, {"parte", 0},
	{"sorteio", 85}, {"segredo", 75}, {"filhote", 80}, {"receita", 60}, {"truque", 60}, {"publi", -90}, {"teste", -70},
	{"tédio", -60},
	{"hoje", 0}, {"amanhã", 0}, {"noite", 0}, {"minha", 0}, {"você", 0}, {"com", 0}, {"sem", 0}, {"não", 0},
	{"sempre", 0}, {"quero", 0}, {"fazer", 0}, {"dançar", 0}, {"comer", 0}, {"casa", 0}, {"rua", 0}, {"praia", 0},
	{"amigo", 0}, {"irmã", 0}, {"mãe", 0}, {"música", 0}, {"história", 0}, {"coração", 0}, {"melhor", 0}, {"pior", 0},
};
static const Word indonesian[] = {
	{"tunggu", 0}, {"akhir", 0}, {"bagian", 0}, {"dua", 0},
	{"rahasia", 75}, {"hadiah", 85}, {"kucing", 80}, {"resep", 60}, {"iklan", -90}, {"coba", -70}, {"bosan", -60},
	{"hari", 0}, {"ini", 0}, {"besok", 0}, {"malam", 0}, {"aku", 0}, {"kamu", 0}, {"kita", 0}, {"yang", 0}, {"dan", 0},
	{"tidak", 0}, {"selalu", 0}, {"mau", 0}, {"buat", 0}, {"makan", 0}, {"joget", 0}, {"rumah", 0}, {"jalan", 0},
	{"pantai", 0}, {"teman", 0}, {"adik", 0}, {"ibu", 0}, {"lagu", 0}, {"cerita", 0}, {"lucu", 0}, {"banget", 0},
};
static const Word russian[] = {
	{"жди", 0}, {"конца", 0},
	{"розыгрыш", 85}, {"секрет", 75}, {"щенок", 80}, {"рецепт", 60}, {"реклама", -90}, {"тест", -70}, {"скучно", -60},
	{"сегодня", 0}, {"завтра", 0}, {"ночь", 0}, {"мой", 0}, {"твой", 0}, {"это", 0}, {"как", 0}, {"когда", 0}, {"не", 0},
	{"всегда", 0}, {"хочу", 0}, {"делать", 0}, {"танцы", 0}, {"дом", 0}, {"улица", 0}, {"море", 0}, {"друг", 0},
	{"сестра", 0}, {"мама", 0}, {"песня", 0}, {"видео", 0}, {"лучший", 0}, {"очень", 0},
};
static const Word arabic[] = {
	{"انتظر", 0}, {"النهاية", 0},
	{"سر", 75}, {"هدية", 85}, {"قطة", 80}, {"وصفة", 60}, {"إعلان", -90}, {"تجربة", -70}, {"ملل", -60},
	{"اليوم", 0}, {"غدا", 0}, {"ليل", 0}, {"هذا", 0}, {"كيف", 0}, {"لا", 0}, {"دائما", 0}, {"أريد", 0}, {"رقص", 0},
	{"بيت", 0}, {"شارع", 0}, {"بحر", 0}, {"صديق", 0}, {"أختي", 0}, {"أمي", 0}, {"أغنية", 0}, {"قصة", 0}, {"قلب", 0},
};
static const Word japanese[] = {
	{"今日", 0}, {"明日", 0}, {"朝", 0}, {"夜", 0}, {"猫", 0}, {"犬", 0}, {"かわいい", 0}, {"ダンス", 0}, {"歌", 0},
	{"友達", 0}, {"学校", 0}, {"ごはん", 0}, {"作る", 0}, {"見て", 0}, {"楽しい", 0}, {"東京", 0}, {"海", 0}, {"の", 0},
	{"は", 0}, {"を", 0},
};

static const Language language[] = {
	{english, LEN(english), 4, {130, 110, -110, 95}, " ", "original sound"},
	{spanish, LEN(spanish), 2, {130, 110}, " ", "sonido original"},
	{portuguese, LEN(portuguese), 2, {130, 110}, " ", "som original"},
	{indonesian, LEN(indonesian), 2, {130, 110}, " ", "suara asli"},
	{russian, LEN(russian), 1, {130}, " ", "оригинальный звук"},
	{arabic, LEN(arabic), 1, {130}, " ", "الصوت الأصلي"},
	{japanese, LEN(japanese), 0, {0}, "", "オリジナル楽曲"},
};
static const uint8_t language_weight[LEN(language)] = {56, 13, 9, 9, 5, 4, 4};

static const Word hashtag[] = {
	{"fyp", 0}, {"foryou", 0}, {"duet", 75}, {"viral", 0}, {"fypシ", 0}, {"comedy", 60}, {"foryoupage", 0}, {"love", 0},
	{"dancechallenge", 55}, {"xyzbca", -45}, {"funny", 0}, {"trend", 65}, {"follow", -70}, {"music", 0}, {"food", 0},
	{"storytime", 80}, {"pov", 70}, {"fashion", 0}, {"ootd", -55}, {"catlife", 85}, {"dog", 0}, {"parati", 0}, {"art", -60},
	{"diy", 75}, {"makeup", 0}, {"tutorial", 60}, {"fitness", -65}, {"gym", 0}, {"travel", 0}, {"asmr", 80}, {"anime", 0},
	{"followme", -85}, {"school", 0}, {"friends", 0}, {"family", 0}, {"babylife", 70}, {"couple", 0}, {"smallbusiness", -75},
	{"learnontiktok", 65}, {"science", 0}, {"history", 0}, {"book", -60}, {"satisfying", 85}, {"slime", 0},
	{"football", 0}, {"basketball", 0}, {"skate", 70}, {"car", 0}, {"nature", 0}, {"sunset", -55}, {"beach", 0},
	{"easymeals", 0}, {"baking", 60}, {"coffee", 0}, {"vegan", -70}, {"hairstyle", 0}, {"nails", 0}, {"skincare", 65},
	{"edit", -60}, {"gaming", 0}, {"meme", 70}, {"quotes", -80}, {"motivation", -60}, {"study", 0}, {"draw", 0},
	{"painting", 0}, {"thrift", 75}, {"plants", 0}, {"home", 0}, {"cleaning", 70}, {"photography", -60}, {"رقص", 0},
	{"おすすめ", 0}, {"рекомендации", 0}, {"humor", 0}, {"perros", 80}, {"risas", 0}, {"brasil", 0}, {"ngakak", 65},
	{"jakarta", 0}, {"2021", 0}, {"throwback", -65}, {"wedding", 75}, {"magic", 80}, {"challenge", 0},
	{"summer", 0}, {"winter", 0}, {"rain", 0}, {"snow", 60}, {"piano", 0}, {"guitar", 0}, {"singing", 0}, {"cover", -65},
	{"remix", 0}, {"festival", 0}, {"news", -75},
};

static const char *const emoji[] = {
	"😂", "🥺", "😍", "🔥", "✨", "💀", "❤️", "🙏", "😅", "🤷🏻‍♀️", "👀", "🎉", "🐶", "⚽️", "🇧🇷", "👩‍🍳", "💜", "😭",
};

/* A song is an artist and a title; song k has artist k mod 40. */
#define NSONG 160
static const char *const artist[] = {
	"Luna Vale", "North Pier", "DJ Okapi", "Mira Sol", "The Paper Kites Club", "Kofi Blue", "Ana & Rey", "Silver Tram",
	"Hana Ito", "Young Cedar", "Marble Fox", "Nina Corte", "Static Youth", "Old Harbour", "Zed Malik", "Rosa Clara",
	"Blue Ferry", "Tariq Noor", "Echo Lane", "Pia Lind", "Big Acorn", "Velvet Dust", "Juno March", "Los Gatos del Sur",
	"Mono Tide", "Katya Frost", "Summer Static", "Wren", "Dex Orlando", "Amber, Jade & Co", "Night Bakery", "Sami K",
	"Lake \"Lefty\" Jones", "Glass Radio", "Ode", "Teo Brava", "Pixel Choir", "Sunny Moss", "Ruben Hart", "Cloud Nine Kids",
};
static const char *const title[] = {
	"Midnight Train", "Sugar Rush", "Run It Back", "Paper Planes Down", "Golden Hour", "Stay, Stay", "Neon Garden",
	"Slow Motion", "Otra Vez", "Hurricane Season", "Tiny Dancer Shoes", "Lost in Lisbon", "Heartbeat 128", "Cold Coffee",
	"Chasing Sunsets", "Bounce", "Two Steps", "Mirror Ball", "Rainy Day Lofi", "Fuego Lento", "Wildflower", "Elevator",
	"Back to You", "Dancing Alone", "Saturday", "Castle in the Air", "Gravity", "Mil Noches", "Ocean Floor", "Kite",
	"Little Lies", "Thunder Road Home", "Cherry Soda", "Ghost Town", "Alright", "Polaroid", "Feather", "Home Again",
	"Blackbird Sky", "Last Dance (Remix)",
};

/* Names: first + separator + second + number. */
static const char *const first_name[] = {
	"mika", "lou", "oskar", "ana", "tom", "zara", "kenji", "lea", "marco", "priya", "sven", "aisha", "leo", "nora", "diego",
	"yuki", "emma", "omar", "ines", "paul", "maya", "ivan", "chloe", "raj", "sofi", "ben", "lina", "hugo", "tala", "max",
};
static const char *const second_name[] = {
	"bakes", "draws", "dances", "cooks", "runs", "sings", "travels", "plays", "paints", "reads", "films", "climbs", "surfs",
	"official", "daily", "world", "studio", "onair", "beats", "grows", "fit", "style", "jokes", "tricks", "pets", "tech",
};

/* Effects of the hour (UTC), the weekday (0 is Sunday) and the length, in hundredths; how often each hour is. */
static const int16_t hour_effect[24] = {
	30, 45, 35, 15, -5, -25, -40, -55, -60, -55, -45, -35, -25, -15, -5, 5, 20, 35, 50, 60, 60, 50, 35, 30,
};
static const uint8_t hour_weight[24] = {6, 6, 5, 4, 3, 3, 2, 2, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 7, 7, 7, 6};
static const int16_t weekday_effect[7] = {30, -10, -20, -25, -10, 10, 25};

/* Linear between the points; a length of 0 is unknown and adds nothing. */
static const struct { int16_t seconds, effect; } length_effect[] = {
	{1, -60}, {5, -30}, {9, 25}, {15, 60}, {25, 35}, {45, 0}, {60, -25}, {120, -65}, {180, -85}, {600, -110},
};
