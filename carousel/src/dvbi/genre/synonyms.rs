//! Synonyms of genres used by grabbers and broadcasters, by term. A term's own English name is listed only if another
//! scheme has a term of that name.

macro_rules! synonyms {
    ($($scheme:literal { $($id:literal $words:literal)* })*) => {
        &[$($((concat!($scheme, $id), $words)),*),*]
    };
}

/// Href, and its synonyms separated by `|`. Each word occurs once.
#[rustfmt::skip] // one term a line
pub(super) static SYNONYMS: &[(&str, &str)] = synonyms! {
    "urn:dvb:metadata:cs:ContentSubject:2019:" {
        "1" "movie|movies|film|films|feature film|tv movie|drama|spielfilm|spielfilme|kinofilm|fernsehfilm\
            |filme|long métrage|téléfilm|película|películas|cine|pellicola|lungometraggio|film tv|dramma\
            |drame"
        "1.1" "detective|thriller|crime|crime drama|mystery|suspense|krimi|policier|polar|policíaca\
            |policiaco|poliziesco|giallo"
        "1.2" "action|adventure|western|war|abenteuer|kriegsfilm|aventure|aventures|guerre|aventura|acción\
            |guerra|avventura|azione"
        "1.3" "science fiction|sci-fi|scifi|fantasy|horror|fantastique|horreur|ciencia ficción|fantasía\
            |terror|fantascienza|orrore"
        "1.4" "comedy|komödie|comédie|comedia|commedia"
        "1.5" "soap|soap opera|soaps|melodrama|telenovela|seifenoper|feuilleton"
        "1.6" "romance|romantic|liebesfilm|romantik|romantique|romántica|romantico|sentimentale"
        "2" "news|current affairs|newscast|nachrichten|aktuelles|actualité|actualités|information\
            |informations|info|journal|journal télévisé|noticias|informativo|informativos|notizie\
            |notiziario|telegiornale|attualità"
        "2.1" "weather|weather report|wetter|wetterbericht|météo|tiempo|el tiempo|previsioni del tempo"
        "2.2" "newsmagazine|nachrichtenmagazin|magazine d'information"
        "2.3" "documentary|documentaries|docu|docuseries|doku|dokumentation|dokumentationen|dokumentarfilm\
            |dokumentarserie|documentaire|documental|documentales|documentario|documentari"
        "2.4" "discussion|interview|debate|diskussion|gespräch|débat|entrevista|dibattito|intervista"
        "3" "show|shows|entertainment|light entertainment|unterhaltung|divertissement|entretenimiento\
            |intrattenimento"
        "3.1" "game show|gameshow|quiz|quiz show|quizshow|contest|game|spielshow|jeu|jeux|concurso\
            |concursos|gioco|giochi"
        "3.2" "variety|variété|variétés|variedades|varietà"
        "3.3" "talk|talkshow|talk shows|chat show|late night"
        "4" "sport|sports event|sports non-event|sports talk|deporte|deportes"
        "4.2" "sports magazine|sportmagazin|magazine sportif"
        "4.3" "football|soccer|fußball|fútbol|calcio"
        "4.4" "tennis"
        "4.7" "motorsport|motorsports|motor sports|motor racing|sports mécaniques|motociclismo"
        "4.8" "water sports|wassersport|sports nautiques"
        "4.9" "winter sport|wintersport|sports d'hiver|deportes de invierno|sport invernali"
        "4.11" "martial arts|kampfsport|arts martiaux|artes marciales|arti marziali"
        "5" "children|childrens|children's programmes|children's youth programs|children's programs|kids\
            |youth|kinder|kinderprogramm|kindersendung|jugend|enfant|enfants|jeunesse|infantil|infantiles\
            |niños|bambini|ragazzi"
        "5.1" "preschool|pre-school|vorschule"
        "5.5" "cartoon|cartoons|animation|animated|zeichentrick|trickfilm|zeichentrickserie|dessin animé\
            |dessins animés|dibujos animados|animación|cartoni animati|animazione|puppets"
        "6" "music|musik|musique|música|concert|konzert|concierto|concerto"
        "6.1" "rock|pop|rock music|pop music"
        "6.2" "classical|classical music|klassik|klassische musik|musique classique|música clásica\
            |musica classica"
        "6.3" "folk|volksmusik"
        "6.4" "jazz"
        "6.5" "opera|musical|oper"
        "6.6" "ballet|ballett"
        "7" "arts|art|culture|arts culture|kultur|kunst|arte|cultura"
        "7.3" "religion|religious|kirche|religieux|religione"
        "7.6" "cinema|kino"
        "7.11" "fashion|mode|moda"
        "8" "politics|society|social|economics|economy|business|finance|politik|gesellschaft|wirtschaft\
            |politique|société|économie|política|sociedad|economía|società"
        "8.1" "magazine|magazines|report|reports|magazin|reportage|reportagen|reportaje|rotocalco"
        "8.3" "biography|biographie|porträt|portrait|biografía"
        "9" "education|educational|science|factual|learning|bildung|wissen|wissenschaft|ciencia|educación\
            |scienza|educazione"
        "9.1" "nature|animals|wildlife|environment|natur|tiere|umwelt|animaux|naturaleza|animales|natura\
            |animali"
        "9.2" "technology|technik|technologie|tecnología"
        "9.3" "medicine|medical|medizin|médecine|medicina"
        "9.7" "languages|sprachen|langues|idiomas|lingue"
        "10" "leisure|hobby|hobbies|lifestyle|freizeit|loisirs|ocio|tempo libero"
        "10.1" "travel|tourism|reise|reisen|voyage|voyages|viajes|viaggi|turismo"
        "10.2" "craft|crafts|handicraft|do-it-yourself|diy|basteln|bricolage|bricolaje|fai da te"
        "10.3" "cars|auto|auto und motor|automobile|motor"
        "10.4" "fitness|health|gesundheit|santé|salud|salute"
        "10.5" "cooking|cookery|food|kochen|kochshow|cuisine|cocina|cucina"
        "10.6" "shopping|advertisement|teleshopping|infomercial|werbung|publicité|publicidad|pubblicità"
        "10.7" "gardening|garten|jardinage|jardinería|giardinaggio"
        "12" "adult|adults only|erwachsene|adultes|adultos|adulti"
    }
    "urn:tva:metadata:cs:ContentCS:2011:" {
        "3.1.5.3" "history|geschichte|histoire|historia|storia"
        "3.4" "fiction|series|tv series|drama series|serial|serie|serien|fernsehserie|serie tv"
        "3.4.8" "erotic|erotik|érotique|erótico"
        "3.5.5" "reality tv|reality show|téléréalité|telerrealidad"
        "3.5.7.3" "situation comedy"
    }
};
