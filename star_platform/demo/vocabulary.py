"""The words of the generated marketplace: fields, the specialities inside them, and what people write about them.

A title belongs to a field and says little about the speciality; most phrases are the field's, some the speciality's;
skills are what tells specialities apart. That is the structure a graph finds and a text model alone does not.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Speciality:
    """What a member really looks for, or a job really is."""

    name: str
    skills: tuple[str, ...]
    phrase: str


@dataclass(frozen=True)
class Field:
    """A line of work that texts name openly."""

    name: str
    titles: tuple[str, ...]
    skills: tuple[str, ...]
    phrases: tuple[str, ...]
    specialities: tuple[Speciality, ...]


FIELDS: tuple[Field, ...] = (
    Field(
        "software",
        ("Software engineer", "Senior developer", "Platform engineer", "Technical lead", "Developer", "Engineer"),
        ("git", "code review", "testing"),
        ("building reliable software in small teams", "clean code and short feedback loops", "shipping every week"),
        (
            Speciality("backend", ("java", "kafka", "grpc", "postgres", "spring"), "services that carry heavy load"),
            Speciality("frontend", ("typescript", "react", "css", "webpack", "figma"), "interfaces people enjoy"),
            Speciality("embedded", ("c", "rtos", "can bus", "oscilloscope", "firmware"), "code close to the metal"),
        ),
    ),
    Field(
        "data",
        ("Data scientist", "Analyst", "Data engineer", "Research scientist", "Quantitative analyst", "Data lead"),
        ("python", "sql", "statistics"),
        ("turning data into decisions", "careful experiments and clear charts", "from raw tables to answers"),
        (
            Speciality(
                "machine learning", ("pytorch", "ranking", "embeddings", "cuda", "mlops"), "models in production"
            ),
            Speciality("pipelines", ("spark", "airflow", "dbt", "parquet", "iceberg"), "pipelines that never page"),
            Speciality(
                "insight", ("tableau", "a/b testing", "causal inference", "excel", "surveys"), "why users leave"
            ),
        ),
    ),
    Field(
        "health",
        ("Nurse", "Registered nurse", "Clinical specialist", "Care coordinator", "Ward manager", "Health assistant"),
        ("patient care", "documentation", "triage"),
        ("calm and kind under pressure", "care that puts patients first", "working shifts in a close team"),
        (
            Speciality(
                "intensive care", ("ventilation", "sedation", "ecg", "dialysis", "resuscitation"), "critical care"
            ),
            Speciality(
                "paediatrics",
                ("vaccination", "neonatal care", "play therapy", "growth charts", "parenting"),
                "children",
            ),
            Speciality(
                "geriatrics",
                ("dementia care", "wound care", "palliative care", "mobility", "nutrition"),
                "older people",
            ),
        ),
    ),
    Field(
        "education",
        ("Teacher", "Lecturer", "Tutor", "Learning designer", "School coordinator", "Instructor"),
        ("lesson planning", "assessment", "classroom management"),
        ("helping learners find their way", "patient explanations and high hopes", "small groups and steady progress"),
        (
            Speciality(
                "mathematics",
                ("algebra", "geometry", "olympiad training", "latex", "geogebra"),
                "numbers made friendly",
            ),
            Speciality(
                "languages", ("spanish", "phonetics", "translation", "ielts", "literature"), "speaking from day one"
            ),
            Speciality("sports", ("athletics", "swimming", "first aid", "coaching", "physiology"), "teams that move"),
        ),
    ),
    Field(
        "finance",
        ("Accountant", "Controller", "Finance manager", "Auditor", "Financial analyst", "Treasury specialist"),
        ("reporting", "spreadsheets", "compliance"),
        ("exact numbers on time", "books that close early", "a steady hand for the budget"),
        (
            Speciality("tax", ("vat", "transfer pricing", "tax law", "customs", "payroll tax"), "cross-border tax"),
            Speciality(
                "risk", ("credit risk", "basel", "stress tests", "derivatives", "value at risk"), "risk before it bites"
            ),
            Speciality(
                "ventures",
                ("term sheets", "valuation", "cap tables", "fundraising", "due diligence"),
                "young companies",
            ),
        ),
    ),
    Field(
        "construction",
        ("Site manager", "Civil engineer", "Project engineer", "Foreman", "Planner", "Construction specialist"),
        ("scheduling", "safety", "cost control"),
        ("projects finished on time", "safe sites and proud crews", "from drawing to handover"),
        (
            Speciality(
                "bridges", ("prestressing", "fatigue", "steel", "bearings", "load rating"), "spans and crossings"
            ),
            Speciality("housing", ("insulation", "timber", "permits", "plumbing", "facades"), "homes for many"),
            Speciality(
                "tunnels", ("geotechnics", "shotcrete", "ventilation shafts", "drilling", "survey"), "under the ground"
            ),
        ),
    ),
    Field(
        "hospitality",
        ("Chef", "Restaurant manager", "Host", "Hotel manager", "Kitchen lead", "Service specialist"),
        ("hygiene", "shift planning", "guest service"),
        ("guests who come back", "good food and a warm welcome", "busy evenings with a smile"),
        (
            Speciality(
                "fine dining", ("sauces", "wine pairing", "plating", "tasting menus", "butchery"), "plates with stars"
            ),
            Speciality(
                "events", ("banquets", "staging", "catering", "vendor contracts", "seating"), "weddings and congresses"
            ),
            Speciality("bakery", ("sourdough", "pastry", "chocolate", "lamination", "ovens"), "bread before dawn"),
        ),
    ),
    Field(
        "logistics",
        ("Dispatcher", "Warehouse lead", "Supply planner", "Fleet manager", "Logistics coordinator", "Operations lead"),
        ("inventory", "routing", "erp"),
        ("goods where they should be", "tight schedules and happy drivers", "every pallet accounted for"),
        (
            Speciality(
                "cold chain",
                ("refrigeration", "haccp", "pharma transport", "sensors", "packaging"),
                "cold from end to end",
            ),
            Speciality(
                "shipping", ("incoterms", "containers", "port operations", "charter", "bills of lading"), "sea freight"
            ),
            Speciality(
                "last mile",
                ("cargo bikes", "parcel lockers", "route optimisation", "returns", "couriers"),
                "to the door",
            ),
        ),
    ),
)
GENERAL_SKILLS = ("english", "teamwork", "communication", "planning", "leadership", "negotiation", "writing", "driving")
SENIORITIES = ("junior", "mid", "senior", "lead")
REGIONS = ("north", "east", "south", "west", "centre", "coast")
COMPANY_FIRST = (
    "Alder",
    "Birch",
    "Cobalt",
    "Delta",
    "Ember",
    "Fjord",
    "Granite",
    "Harbor",
    "Indigo",
    "Juniper",
    "Kite",
    "Larch",
)
COMPANY_LAST = ("Works", "Group", "Partners", "Labs", "Services", "Union", "House", "Collective", "Systems", "Brothers")
