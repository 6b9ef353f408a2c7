/** The page of all collections. */

import { filterCollections } from "./collection_filter.js";

filterCollections();
