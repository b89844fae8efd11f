"""`python -m tuneful`"""

from tuneful.cli import main

main()
