// Makes golden.json of cases.yaml: what Go's text/template with sprig makes of each template.
//
//	cd fleet-core/tests/gotemplate/generate && go run . <../cases.yaml >../golden.json
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"os"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	"sigs.k8s.io/yaml"
)

type differs struct {
	Template string `json:"template"`
	// Why ours is another.
	Reason string `json:"reason"`
	// What ours gives; or a part of the error.
	Ours  *string `json:"ours,omitempty"`
	Error string  `json:"error,omitempty"`
	// What ours gives as YAML.
	Value any `json:"value,omitempty"`
}

type cases struct {
	Data any `json:"data"`
	// Compared as text.
	Text []string `json:"text"`
	// Compared as text and as YAML.
	YAML []string `json:"yaml"`
	// Compared as YAML only: quotes and spaces are not Go's.
	Value []string `json:"value"`
	// Where ours is another on purpose.
	Differs []differs `json:"differs"`
}

type result struct {
	Template string   `json:"template"`
	Text     *string  `json:"text,omitempty"`
	Error    string   `json:"error,omitempty"`
	As       []string `json:"as,omitempty"`
	Differs  *differs `json:"differs,omitempty"`
}

func main() {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	var all cases
	if err := yaml.UnmarshalStrict(input, &all); err != nil {
		log.Fatal(err)
	}
	var results []result
	add := func(text string, differs *differs, as ...string) {
		result := result{Template: text, As: as, Differs: differs}
		if out, err := render(text, all.Data); err != nil {
			result.Error = err.Error()
		} else {
			result.Text = &out
		}
		results = append(results, result)
	}
	for _, text := range all.Text {
		add(text, nil, "text")
	}
	for _, text := range all.YAML {
		add(text, nil, "text", "yaml")
	}
	for _, text := range all.Value {
		add(text, nil, "yaml")
	}
	for _, it := range all.Differs {
		text := it.Template
		it.Template = ""
		add(text, &it)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", " ")
	out.SetEscapeHTML(false)
	if err := out.Encode(map[string]any{"data": all.Data, "cases": results}); err != nil {
		log.Fatal(err)
	}
}

func render(text string, data any) (out string, err error) {
	parsed, err := template.New("golden").Option("missingkey=error").Funcs(functions()).Parse(text)
	if err != nil {
		return "", err
	}
	var buffer bytes.Buffer
	// A fresh copy: some functions change what they are given.
	err = parsed.Execute(&buffer, whole(copied(data)))
	return buffer.String(), err
}

func copied(value any) (out any) {
	bytes, err := json.Marshal(value)
	if err != nil {
		log.Fatal(err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(bytes)))
	decoder.UseNumber()
	if err := decoder.Decode(&out); err != nil {
		log.Fatal(err)
	}
	return out
}

// Numbers without a fraction as int, as ours are.
func whole(value any) any {
	switch value := value.(type) {
	case json.Number:
		if number, err := value.Int64(); err == nil {
			return int(number)
		}
		number, _ := value.Float64()
		return number
	case []any:
		for index := range value {
			value[index] = whole(value[index])
		}
	case map[string]any:
		for key := range value {
			value[key] = whole(value[key])
		}
	}
	return value
}

// sprig's, and those that Helm and Sveltos add.
func functions() template.FuncMap {
	all := sprig.TxtFuncMap()
	all["toYaml"] = func(value any) string {
		out, err := yaml.Marshal(value)
		if err != nil {
			return ""
		}
		return strings.TrimSuffix(string(out), "\n")
	}
	all["fromYaml"] = func(text string) map[string]any {
		out := map[string]any{}
		if err := yaml.Unmarshal([]byte(text), &out); err != nil {
			out["Error"] = err.Error()
		}
		return out
	}
	all["fromYamlArray"] = func(text string) []any {
		out := []any{}
		if err := yaml.Unmarshal([]byte(text), &out); err != nil {
			out = []any{err.Error()}
		}
		return out
	}
	all["toJson"] = func(value any) string {
		out, err := json.Marshal(value)
		if err != nil {
			return ""
		}
		return string(out)
	}
	all["fromJson"] = func(text string) map[string]any {
		out := map[string]any{}
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			out["Error"] = err.Error()
		}
		return out
	}
	return all
}
