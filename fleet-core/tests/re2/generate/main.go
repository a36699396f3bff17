// Makes golden.json of patterns.json: what Go's regexp makes of each pattern, and where it finds it in each text.
//
//	cd fleet-core/tests/re2/generate && go run . <../patterns.json >../golden.json
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"regexp"
	"strings"
)

type cases struct {
	Texts    []string `json:"texts"`
	Patterns []string `json:"patterns"`
}

type result struct {
	Pattern string `json:"pattern"`
	// Why it is none.
	Error string `json:"error,omitempty"`
	// For each text, where it is found: first byte and first byte after it.
	Found [][][]int `json:"found,omitempty"`
}

func main() {
	var all cases
	if err := json.NewDecoder(os.Stdin).Decode(&all); err != nil {
		log.Fatal(err)
	}
	var results []result
	for _, pattern := range all.Patterns {
		result := result{Pattern: pattern}
		if compiled, err := regexp.Compile(pattern); err != nil {
			result.Error = err.Error()
		} else {
			for _, text := range all.Texts {
				found := compiled.FindAllStringIndex(text, -1)
				if found == nil {
					found = [][]int{}
				}
				result.Found = append(result.Found, found)
			}
		}
		results = append(results, result)
	}
	fmt.Printf("{\"texts\": %s,\n\"patterns\": [\n", encoded(all.Texts))
	for i, result := range results {
		separator := ","
		if i == len(results)-1 {
			separator = ""
		}
		fmt.Printf("%s%s\n", encoded(result), separator)
	}
	fmt.Println("]}")
}

func encoded(value any) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		log.Fatal(err)
	}
	return strings.TrimSpace(text.String())
}
